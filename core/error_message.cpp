#include "core/error_message.h"

#include <new>

#include <c10/util/Exception.h>

#include "core/error.h"

namespace braid {

namespace {

// " of 12 bytes" where LibTorch's text has "you tried to allocate 12 bytes".
std::string size_asked(const std::string& torch_text) {
  const std::string before = "tried to allocate ";
  const auto at = torch_text.find(before);
  const auto begin = at + before.size();
  const auto end =
      at == std::string::npos ? begin : torch_text.find_first_not_of("0123456789", begin);
  return at == std::string::npos || end == begin
             ? ""
             : text(" (", torch_text.substr(begin, end - begin), " bytes were asked for)");
}

std::string out_of_memory(const std::string& size) {
  return text(
      "out of memory",
      size,
      "; use a smaller train.micro_batch_size, train.recompute_sublayers: 2, fewer ranks on a "
      "machine or shorter sequences (data.seq_len); with other commands a smaller "
      "--batch-size or --seq-len");
}

}  // namespace

std::string message_of(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) {
    return out_of_memory("");
  }
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  if (torch_error == nullptr) {
    return error.what();
  }
  const std::string said = torch_error->what_without_backtrace();
  for (const auto* part : {"can't allocate memory", "not enough memory"}) {
    if (said.find(part) != std::string::npos) {
      return out_of_memory(size_asked(said));
    }
  }
  return said;
}

}  // namespace braid
