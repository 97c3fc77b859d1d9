#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "data/byte_stream.h"

namespace braid {

/// A JSON array as JSONL: one item a line, in order; anything else as it is. Items are only cut
/// apart, so a damaged one is a damaged line. Holds one piece in memory.
class JsonArrayLines : public ByteStream {
 public:
  /// `stream` must outlive the object; `name` is for messages.
  JsonArrayLines(ByteStream& stream, std::string name) : stream_(stream), name_(std::move(name)) {}

  /// Throws Error with `name` for an array without its end, for something behind it, and for a
  /// comma without an item before it.
  std::string_view next() override;

  /// Whether it is an array; known behind the first call of next().
  bool is_array() const { return state_ != State::kLines && state_ != State::kBefore; }

 private:
  enum class State { kBefore, kLines, kItems, kBehind };

  void convert(std::string_view piece);
  void add(char c);
  void end_item();

  ByteStream& stream_;
  std::string name_;
  State state_ = State::kBefore;
  int64_t items_ = 0, depth_ = 0;
  bool in_item_ = false, in_string_ = false, escaped_ = false;
  std::string lines_;
};

}  // namespace braid
