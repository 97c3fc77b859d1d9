#include "inference/utf8_stream.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace braid {
namespace {

constexpr const char* kReplacement = "\xEF\xBF\xBD";  // U+FFFD

struct Sequence {
  std::size_t length;   // of a sequence that begins like this; 0 = none does
  std::size_t fitting;  // bytes that fit, at least 1
};

Sequence sequence_at(std::string_view bytes) {
  const auto byte = [bytes](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned first = byte(0);
  const std::size_t length = first < 0x80                     ? 1
                             : first >= 0xC2 && first <= 0xDF ? 2
                             : first >= 0xE0 && first <= 0xEF ? 3
                             : first >= 0xF0 && first <= 0xF4 ? 4
                                                              : 0;
  // The second byte's range leaves out overlong forms, surrogates and what is beyond U+10FFFF.
  const unsigned low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const unsigned high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  const auto fits = [&](std::size_t i) {
    return i == 1 ? low <= byte(i) && byte(i) <= high : 0x80 <= byte(i) && byte(i) <= 0xBF;
  };
  std::size_t fitting = 1;
  while (fitting < std::min(length, bytes.size()) && fits(fitting)) {
    ++fitting;
  }
  return {length, fitting};
}

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
    const auto [length, fitting] = sequence_at(rest);
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
