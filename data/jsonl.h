#pragma once
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "data/byte_stream.h"

namespace braid {

struct JsonlOptions {
  std::string text_key = "text";
  std::size_t longest_line = std::size_t{64} << 20;  ///< bytes; what a line may take in memory
};

/// Calls `visit` with the string under `text_key` of each line's JSON object, in order; other keys
/// may hold anything, and blank lines are passed over. The view is valid during the call only.
/// Throws Error with `name`, the line and what was expected for a line that is too long, no JSON
/// object in UTF-8, or without exactly one string under the key.
void for_each_jsonl_text(ByteStream& stream,
                         const std::string& name,
                         const JsonlOptions& options,
                         const std::function<void(std::string_view)>& visit);

}  // namespace braid
