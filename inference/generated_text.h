#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "inference/utf8_stream.h"

namespace braid {

/// The text of one continuation while its tokens arrive. It ends before the first stop text to
/// become whole, of several at once the longest; a stop text may span tokens, so what could still
/// begin one is held back. The text is valid UTF-8, as Utf8Stream makes it.
class GeneratedText {
 public:
  /// Throws Error for an empty stop text.
  explicit GeneratedText(std::vector<std::string> stop_texts);

  /// Takes the bytes of the next token; returns the text that is certain now and was not before.
  std::string add(std::string_view bytes);
  /// The rest, once no token follows.
  std::string finish();
  bool stopped() const { return stopped_; }

 private:
  std::size_t stop_at_end() const;
  std::size_t possible_stop_at_end() const;

  std::vector<std::string> stop_texts_;
  std::string held_;  // bytes that may yet turn out to begin a stop text
  Utf8Stream utf8_;
  bool stopped_ = false;
};

}  // namespace braid
