#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace braid {

/// How many of a file's first bytes require_text() wants to see, or all of a shorter file.
inline constexpr std::size_t kHeadBytes = 4096;

/// The bytes without the byte-order mark that some editors put before UTF-8 text.
std::string_view without_byte_order_mark(std::string_view text);

/// Throws Error with `name`, the format and how to convert it, where the first bytes of a file say
/// that it is no plain text and no JSONL: Parquet, Arrow, archives, other compression, databases,
/// images, programs, weights, UTF-16 and UTF-32, a Git LFS pointer, and a JSON array unless it may
/// be one.
void require_text(std::string_view head, const std::string& name, bool may_be_array = false);

/// The same for plain text alone: also where the first line is a JSON object with a string under
/// `text_key`, which is JSONL by another name.
void require_plain_text(std::string_view head,
                        const std::string& text_key,
                        const std::string& name);

}  // namespace braid
