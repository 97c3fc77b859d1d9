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
  /// at the end. A line that is too long is empty, and too_long() says so.
  std::optional<std::string_view> next();
  bool too_long() const { return too_long_; }

  /// Of the line that next() returned last, from 1.
  int64_t number() const { return number_; }
  const std::string& name() const { return name_; }

 private:
  ByteStream& stream_;
  std::string name_;
  std::size_t longest_;
  int64_t number_ = 0;
  std::string_view piece_;  // rest of the current piece
  std::string line_;        // a line that began in an earlier piece
  bool too_long_ = false;   // what is left of the line is still to be passed over
};

}  // namespace braid
