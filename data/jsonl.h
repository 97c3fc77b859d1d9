#pragma once
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "data/bad_lines.h"
#include "data/byte_stream.h"
#include "data/line_reader.h"

namespace braid {

struct JsonlOptions {
  std::string text_key = "text";
  std::size_t longest_line = std::size_t{64} << 20;  ///< bytes; what a line may take in memory
  OnBadLine on_bad_line = OnBadLine::kError;
};

/// The strings under `text_key` of the JSON objects that a stream's lines are, in order. Other keys
/// may hold anything (json_line.h); blank lines are skipped.
class JsonlReader {
 public:
  /// `stream` must outlive the reader; `name` is for messages.
  JsonlReader(ByteStream& stream, const std::string& name, JsonlOptions options);

  /// The next text, valid until the next call; nullopt at the end. A bad line is one that is too
  /// long, no JSON object, or without exactly one string in UTF-8 under the key. It is skipped, or
  /// Error thrown with `name`, the line and what was expected, and with the bad ones that follow it
  /// closely.
  std::optional<std::string_view> next();

  /// That lines were skipped, and which; empty where none was. For after the end.
  std::string note() const;

 private:
  bool read(std::string_view line);
  [[noreturn]] void fail_with_next_ones();

  JsonlOptions options_;
  LineReader lines_;
  std::string text_;
  BadLines bad_;
};

}  // namespace braid
