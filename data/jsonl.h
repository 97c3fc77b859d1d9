#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "data/bad_lines.h"
#include "data/byte_stream.h"
#include "data/json_array.h"
#include "data/line_reader.h"

namespace braid {

/// A line, or an item, that is longer is a bad one; what one may take in memory.
inline constexpr std::size_t kLongestJsonRow = std::size_t{64} << 20;  // bytes

/// Takes the lines of JSONL, or the items of a JSON array, one by one, and keeps account of bad
/// ones.
class JsonRows {
 public:
  struct Options {
    std::size_t longest = kLongestJsonRow;  ///< bytes of a row
    OnBadLine on_bad_line = OnBadLine::kError;
    bool may_be_array = false;
    /// What a good row is and how to get on, at the end of an error.
    std::string expected = {};
  };
  /// Takes a row; returns what is wrong with it, to be put behind "this line", or nothing.
  using Take = std::function<std::string(std::string_view row)>;

  /// `stream` must outlive the object; `name` is for messages.
  JsonRows(ByteStream& stream, const std::string& name, Options options, Take take);
  JsonRows(const JsonRows&) = delete;
  JsonRows& operator=(const JsonRows&) = delete;

  /// Whether another row was taken. A bad row is one that is too long or that `take` finds wrong:
  /// it is skipped, or Error thrown with `name`, the line, what was expected, and the bad ones that
  /// follow it closely. Blank lines are no rows.
  bool next();

  /// Of the row that was taken last, from 1.
  int64_t number() const { return lines_.number(); }
  /// "line 17", "item 17".
  std::string place() const;
  /// "file:17", "file: item 17".
  std::string full_place() const;
  bool is_array() const { return array_.is_array(); }

  int64_t num_bad() const { return bad_.count(); }
  /// That rows were skipped, and which; empty where none was. For after the end.
  std::string note() const;

 private:
  bool read(std::string_view line);
  [[noreturn]] void fail_with_next_ones();

  Options options_;
  Take take_;
  JsonArrayLines array_;
  LineReader lines_;
  BadLines bad_;
};

struct JsonlOptions {
  std::string text_key = "text";
  std::size_t longest_line = kLongestJsonRow;  ///< bytes
  OnBadLine on_bad_line = OnBadLine::kError;
};

/// The strings under `text_key` of the JSON objects that a stream's lines are, in order. Other keys
/// may hold anything (json_line.h); blank lines are skipped.
class JsonlReader {
 public:
  /// `stream` must outlive the reader; `name` is for messages.
  JsonlReader(ByteStream& stream, const std::string& name, const JsonlOptions& options);
  JsonlReader(const JsonlReader&) = delete;
  JsonlReader& operator=(const JsonlReader&) = delete;

  /// The next text, valid until the next call; nullopt at the end. A line without exactly one
  /// string in UTF-8 under the key is bad, see JsonRows.
  std::optional<std::string_view> next();

  /// As JsonRows has it.
  std::string note() const { return rows_.note(); }

 private:
  std::string text_;
  JsonRows rows_;
};

}  // namespace braid
