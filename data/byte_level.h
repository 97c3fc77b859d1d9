#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace braid {

/// The printable character that a byte-level vocabulary writes for a byte (GPT-2's alphabet): most
/// printable ones of Latin-1 are themselves, the others follow from U+0100 on in order.
std::string byte_symbol(uint8_t byte);

/// The bytes that a vocabulary entry stands for; nullopt where a character of it is no
/// byte_symbol().
std::optional<std::string> bytes_of_symbols(std::string_view entry);

}  // namespace braid
