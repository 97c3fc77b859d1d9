#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "data/chat_options.h"
#include "data/tokenizer.h"

namespace braid {

/// What a token of a conversation is part of. What the assistant said is divided further.
enum class ChatPart {
  kHeader,  ///< tokens that say who speaks next, and whether with reasoning
  kSystem,  ///< also the declarations of tools
  kUser,    ///< also a developer, whom the model reads as a user
  kTool,    ///< from <tool_result> to </tool_result>
  kLatestReminder,
  kReasoning,  ///< with its </think>
  kText,
  kCalls,
  kEnd,
};
inline constexpr std::size_t kChatParts = 9;

/// Whether the assistant produced it.
bool is_assistant(ChatPart part);

/// Ids begin..end-1 of a document.
struct ChatPartSpan {
  int64_t begin = 0, end = 0;
  ChatPart part = ChatPart::kHeader;
  bool operator==(const ChatPartSpan&) const = default;
};

/// Tells the parts of conversations by their ids, as the model does: the template alone writes
/// special tokens (chat_render.h), so what is between two of them is one message. So it is the same
/// whether a conversation comes as messages, as ids, or out of a token store.
class ChatPartReader {
 public:
  /// `tokenizer` must outlive the object. One without the template's tokens reads no conversation.
  explicit ChatPartReader(const Tokenizer& tokenizer);

  /// The parts of a document's ids (without the begin token), in order, all of them; neighbors
  /// differ. Empty where no answer begins in it: it is no conversation. A token that <tool_result>
  /// or </tool_result> divides belongs where its first byte does.
  std::vector<ChatPartSpan> parts(const std::vector<int64_t>& ids) const;

  /// Ids begin..end-1 of the last answer, without its end token.
  struct Answer {
    int64_t begin = 0, end = 0;
    ChatMode mode = ChatMode::kChat;  ///< what its header asks for
  };
  /// Nothing where the document is no conversation, or nobody answers in it.
  std::optional<Answer> last_answer(const std::vector<int64_t>& ids) const;

 private:
  std::vector<ChatPart> part_of_each(const std::vector<int64_t>& ids) const;
  void mark_results(const std::vector<int64_t>& ids, std::vector<ChatPart>& part_of) const;
  void mark_begin_of_calls(const std::vector<int64_t>& ids,
                           std::size_t at,
                           std::vector<ChatPart>& part_of) const;

  const Tokenizer& tokenizer_;
  std::optional<int64_t> user_, assistant_, reminder_, think_, end_think_, dsml_;
  std::vector<int64_t> tasks_;
};

}  // namespace braid
