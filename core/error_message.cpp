#include "core/error_message.h"

#include <filesystem>
#include <new>
#include <stdexcept>
#include <system_error>

#include <c10/util/Exception.h>

#include "core/error.h"

namespace braid {

namespace {

std::string first_line(const std::string& said) {
  return said.substr(0, said.find('\n'));
}

// Nothing that a user does should lead here, so the text is of use to whoever mends it.
std::string unexpected(const std::string& said) {
  return "this should not happen: " + first_line(said) +
         "; please report it with the command and its configuration";
}

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
  if (dynamic_cast<const Error*>(&error) != nullptr) {
    return error.what();
  }
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) {
    return out_of_memory("");
  }
  if (const auto* torch_error = dynamic_cast<const c10::Error*>(&error)) {
    const std::string said = torch_error->what_without_backtrace();
    for (const auto* part : {"can't allocate memory", "not enough memory"}) {
      if (said.find(part) != std::string::npos) {
        return out_of_memory(size_asked(said));
      }
    }
    return unexpected(said);
  }
  if (const auto* of_file = dynamic_cast<const std::filesystem::filesystem_error*>(&error)) {
    return text("cannot use ",
                of_file->path1().empty() ? "a file or folder" : of_file->path1().string(),
                of_file->path2().empty() ? "" : " and " + of_file->path2().string(),
                ": ",
                of_file->code().message());
  }
  if (dynamic_cast<const std::length_error*>(&error) != nullptr) {
    return "a size is too large for any memory; look for a number that is far too large in the "
           "configuration or the options";
  }
  if (const auto* of_system = dynamic_cast<const std::system_error*>(&error)) {
    return text("the system refuses: ", of_system->code().message());
  }
  return unexpected(error.what());
}

}  // namespace braid
