#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "data/byte_stream.h"

namespace braid {

/// Splits a stream into lines; holds one piece and one line in memory.
class LineReader {
 public:
  static constexpr std::size_t kUnlimited = std::string_view::npos;

  /// `stream` must outlive the reader; `name` is for messages. A line may have `longest` bytes, its
  /// end not counted.
  LineReader(ByteStream& stream, std::string name, std::size_t longest = kUnlimited)
      : stream_(stream), name_(std::move(name)), longest_(longest) {}

  /// The next line with its '\n' (which the last one may lack), valid until the next call; nullopt
  /// at the end. Throws Error for a line that is too long.
  std::optional<std::string_view> next();

  /// "name:17" of the line that next() returned last.
  std::string where() const;

 private:
  ByteStream& stream_;
  std::string name_;
  std::size_t longest_;
  int64_t number_ = 0;
  std::string_view piece_;  // rest of the current piece
  std::string line_;        // a line that began in an earlier piece
};

}  // namespace braid
