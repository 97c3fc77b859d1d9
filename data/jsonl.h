#pragma once
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "data/byte_stream.h"
#include "data/line_reader.h"

namespace braid {

struct JsonlOptions {
  std::string text_key = "text";
  std::size_t longest_line = std::size_t{64} << 20;  ///< bytes; what a line may take in memory
};

/// The strings under `text_key` of the JSON objects that a stream's lines are, in order. Other keys
/// may hold anything; blank lines are skipped.
class JsonlReader {
 public:
  /// `stream` must outlive the reader; `name` is for messages.
  JsonlReader(ByteStream& stream, const std::string& name, JsonlOptions options);

  /// The next text, valid until the next call; nullopt at the end. Throws Error with `name`, the
  /// line and what was expected for a line that is too long, no JSON object in UTF-8, or without
  /// exactly one string under the key.
  std::optional<std::string_view> next();

 private:
  JsonlOptions options_;
  LineReader lines_;
  std::string text_;
};

}  // namespace braid
