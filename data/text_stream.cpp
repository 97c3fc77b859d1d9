#include "data/text_stream.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "core/utf8.h"
#include "data/file_format.h"

namespace braid {
namespace {

// Of the ASCII characters at the beginning that are not 0, most of them.
std::size_t plain_prefix(std::string_view text) {
  constexpr uint64_t kHigh = 0x8080808080808080, kOnes = 0x0101010101010101;
  std::size_t at = 0;
  for (; at + 8 <= text.size(); at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, text.data() + at, sizeof word);
    if (((word | (word - kOnes)) & kHigh) != 0) {  // a high bit, or a borrow out of a 0
      break;
    }
  }
  return at;
}

}  // namespace

TextStream::TextStream(std::unique_ptr<ByteStream> bytes, Options options)
    : bytes_(std::move(bytes)), options_(std::move(options)) {}

std::string_view TextStream::next() {
  const std::string_view piece = std::exchange(began_, true) ? bytes_->next() : without_mark();
  if (!options_.is_jsonl && note_.empty()) {
    look_at(piece);
  }
  return piece;
}

// The first piece. It is at least as long as what tells formats apart, whatever the pieces are.
std::string_view TextStream::without_mark() {
  while (head_.size() < kHeadBytes) {
    const std::string_view piece = bytes_->next();
    if (piece.empty()) {
      break;
    }
    head_ += piece;
  }
  const std::string_view head = std::string_view(head_).substr(0, kHeadBytes);
  if (options_.is_jsonl) {
    require_text(head, options_.name, options_.may_be_array);
  } else {
    require_plain_text(head, options_.text_key, options_.name);
  }
  const std::string_view text = without_byte_order_mark(head_);
  looked_at_ = static_cast<int64_t>(head_.size() - text.size());
  return text.empty() ? bytes_->next() : text;
}

void TextStream::look_at(std::string_view piece) {
  std::string joined;
  std::string_view text = piece;
  if (!partial_.empty()) {
    looked_at_ -= static_cast<int64_t>(partial_.size());
    joined = std::exchange(partial_, "");
    joined += piece;
    text = joined;
  }
  std::size_t at = 0;
  while (at < text.size()) {
    at += plain_prefix(text.substr(at));
    if (at == text.size()) {
      break;
    }
    const std::string_view rest = text.substr(at);
    const auto [length, fitting] = utf8_sequence_at(rest);
    if (rest[0] == '\0') {
      note_fault(text, at, "holds a zero byte");
      return;
    }
    if (length > fitting && fitting == rest.size() && !piece.empty()) {
      partial_ = rest;  // the next piece may complete it
      break;
    }
    if (length != fitting) {
      note_fault(text, at, "is not UTF-8");
      return;
    }
    at += length;
  }
  looked_at_ += static_cast<int64_t>(text.size());
  line_ += std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
}

void TextStream::note_fault(std::string_view text, std::size_t at, const std::string& what) {
  line_ += std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
  note_ = braid::text(options_.name,
                      ":",
                      line_,
                      ": ",
                      what,
                      " (byte ",
                      looked_at_ + static_cast<int64_t>(at),
                      " of the text, the first one like this); its bytes are taken as they are. If "
                      "it should be text, convert it, for example: iconv -f ISO-8859-1 -t UTF-8");
}

}  // namespace braid
