#pragma once
#include <string_view>

namespace braid {

/// Takes the pieces of a text in order.
class PieceSink {
 public:
  virtual ~PieceSink() = default;
  virtual void take(std::string_view piece) = 0;
};

/// Cuts a text into the pieces that are encoded alone: the "pre-tokenizer" of a tokenizer.json.
class Splitter {
 public:
  virtual ~Splitter() = default;

  /// `text` is valid UTF-8. The pieces are not empty and give the text when put together.
  virtual void split(std::string_view text, PieceSink& sink) const = 0;
};

/// Every text is one piece.
class WholeText : public Splitter {
 public:
  void split(std::string_view text, PieceSink& sink) const override {
    if (!text.empty()) {
      sink.take(text);
    }
  }
};

}  // namespace braid
