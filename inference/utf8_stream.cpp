#include "inference/utf8_stream.h"

#include "core/utf8.h"

namespace braid {
namespace {

constexpr const char* kReplacement = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace

std::string Utf8Stream::add(std::string_view bytes) {
  pending_ += bytes;
  return take(/*at_end=*/false);
}

std::string Utf8Stream::finish() {
  return take(/*at_end=*/true);
}

std::string Utf8Stream::take(bool at_end) {
  std::string result;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const auto [length, fitting] = utf8_sequence_at(rest);
    if (fitting == length) {
      result += rest.substr(0, length);
    } else if (length > 0 && fitting == rest.size() && !at_end) {
      break;
    } else {
      result += kReplacement;
    }
    rest.remove_prefix(fitting);
  }
  pending_ = std::string(rest);
  return result;
}

}  // namespace braid
