#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "data/chat.h"
#include "data/document.h"
#include "data/tokenizer.h"

namespace braid {

/// A stretch of a rendered conversation.
struct ChatSegment {
  std::string text;
  bool special;  ///< the spelling of one special token, written by the template
  /// By default the assistant's own: reasoning with its end, content, calls, end token.
  bool trained;
  float weight;  ///< of its tokens, where it is trained
};

/// A conversation as DeepSeek-V4 reads it. Spellings of special tokens in messages stay text: only
/// the template writes special tokens.
class RenderedChat {
 public:
  /// `context`: earlier messages, which count but are not rendered. Throws Error for an empty
  /// developer message and an effort that the profile has not.
  RenderedChat(const std::vector<ChatMessage>& messages,
               const ChatOptions& options,
               const std::vector<ChatMessage>& context = {});

  const std::vector<ChatSegment>& segments() const { return segments_; }
  /// Messages that are not trained because of ChatTraining::last_answer_only alone.
  int64_t masked_messages() const { return masked_messages_; }

  /// The whole text.
  std::string text() const;

  struct Ids {
    std::vector<int64_t> ids;
    std::vector<TargetSpan> trained;  ///< of ids, in order
  };

  /// Throws Error where the tokenizer lacks a special token of the template.
  Ids encode(const Tokenizer& tokenizer) const;

 private:
  std::vector<ChatSegment> segments_;
  int64_t masked_messages_ = 0;
};

}  // namespace braid
