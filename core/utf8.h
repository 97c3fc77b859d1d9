#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace braid {

/// What stands at the beginning of bytes that should be UTF-8.
struct Utf8Sequence {
  std::size_t length;   ///< of a sequence that begins like this; 0 = none does
  std::size_t fitting;  ///< bytes that fit, at least 1; the sequence is whole where both are equal
};

/// `bytes` must not be empty. Bytes that fit without making a sequence are one maximal subpart
/// (Unicode 15, 3.9), which one U+FFFD stands for.
inline Utf8Sequence utf8_sequence_at(std::string_view bytes) {
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

/// A character of valid UTF-8.
struct Utf8Character {
  uint32_t code_point;
  std::size_t length;
};

/// The first character of `text`, which must be valid UTF-8 and not empty.
inline Utf8Character utf8_character_at(const char* text) {
  const auto byte = [text](std::size_t i) { return uint32_t{static_cast<unsigned char>(text[i])}; };
  const uint32_t first = byte(0);
  if (first < 0x80) {
    return {first, 1};
  }
  if (first < 0xE0) {
    return {(first & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  }
  if (first < 0xF0) {
    return {(first & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  }
  return {(first & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F),
          4};
}

}  // namespace braid
