#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "data/byte_stream.h"

namespace braid {

/// Bytes that should be text: their byte-order mark left out, and looked at on the way.
class TextStream : public ByteStream {
 public:
  struct Options {
    std::string name = {};      ///< for messages
    bool is_jsonl = false;      ///< whose reader looks at the text itself
    std::string text_key = {};  ///< of JSONL
    bool may_be_array = false;  ///< of JSON, for a reader of rows
  };

  TextStream(std::unique_ptr<ByteStream> bytes, Options options);

  /// Throws Error for what require_text() or, unless it is JSONL, require_plain_text() refuses, and
  /// as the stream of bytes does.
  std::string_view next() override;

  /// Where plain text was first found to be no UTF-8, or to hold a zero byte; empty where it is
  /// sound so far.
  const std::string& note() const { return note_; }

 private:
  std::string_view without_mark();
  void look_at(std::string_view piece);
  void note_fault(std::string_view text, std::size_t at, const std::string& what);

  std::unique_ptr<ByteStream> bytes_;
  Options options_;
  std::string head_;  // the first bytes, until they are given out
  bool began_ = false;
  std::string partial_;  // a sequence that the last piece broke off
  int64_t line_ = 1;
  int64_t looked_at_ = 0;  // bytes
  std::string note_;
};

}  // namespace braid
