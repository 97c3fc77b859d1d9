#include "data/byte_level.h"

#include <array>

#include "core/utf8.h"

namespace braid {
namespace {

struct ByteAlphabet {
  std::array<uint32_t, 256> code_points;
  std::array<int, 512> bytes;  // by code point; -1 = none

  ByteAlphabet() {
    bytes.fill(-1);
    uint32_t next = 0x100;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const bool stays = (0x21 <= byte && byte <= 0x7E) || (0xA1 <= byte && byte != 0xAD);
      code_points[byte] = stays ? byte : next++;
      bytes[code_points[byte]] = static_cast<int>(byte);
    }
  }
};

const ByteAlphabet& byte_alphabet() {
  static const ByteAlphabet alphabet;
  return alphabet;
}

}  // namespace

std::string byte_symbol(uint8_t byte) {
  const uint32_t code_point = byte_alphabet().code_points[byte];
  if (code_point < 0x80) {
    return std::string(1, static_cast<char>(code_point));
  }
  return {static_cast<char>(0xC0 | code_point >> 6), static_cast<char>(0x80 | (code_point & 0x3F))};
}

std::optional<std::string> bytes_of_symbols(std::string_view entry) {
  std::string result;
  while (!entry.empty()) {
    const auto [length, fitting] = utf8_sequence_at(entry);
    if (length != fitting) {
      return std::nullopt;
    }
    const uint32_t code_point = utf8_character_at(entry.data()).code_point;
    const auto& bytes = byte_alphabet().bytes;
    if (code_point >= bytes.size() || bytes[code_point] < 0) {
      return std::nullopt;
    }
    result += static_cast<char>(bytes[code_point]);
    entry.remove_prefix(length);
  }
  return result;
}

}  // namespace braid
