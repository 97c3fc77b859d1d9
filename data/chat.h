#pragma once
// Conversations, as fine-tuning data and serving programs write them.
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/chat_options.h"
#include "data/ordered_json.h"

namespace braid {

/// What is put behind a user's message in place of a conversation's next turn.
enum class ChatTask { kAction, kQuery, kAuthority, kDomain, kTitle, kReadUrl };
inline auto enum_names(ChatTask) {
  return std::array{EnumName{"action", ChatTask::kAction},
                    EnumName{"query", ChatTask::kQuery},
                    EnumName{"authority", ChatTask::kAuthority},
                    EnumName{"domain", ChatTask::kDomain},
                    EnumName{"title", ChatTask::kTitle},
                    EnumName{"read_url", ChatTask::kReadUrl}};
}

struct ToolCall {
  std::string id = {};  ///< empty where there is none
  std::string name;
  std::vector<OrderedJson::Member> arguments = {};
  bool operator==(const ToolCall&) const = default;
};

struct ChatMessage {
  ChatRole role = ChatRole::kUser;
  std::string content = {};
  std::string reasoning = {};             ///< assistant: before its content
  std::vector<ToolCall> tool_calls = {};  ///< assistant: after its content
  std::string tool_call_id = {};          ///< tool: which call it answers
  std::vector<std::string> tools = {};    ///< system, developer: one JSON schema each
  std::string response_format = {};       ///< system, developer: JSON; empty = none
  std::optional<ChatTask> task = {};
  std::optional<float> weight = {};  ///< of its tokens in training; none: by its role
  bool without_end = false;          ///< assistant: no end token, for it is to be continued
};

/// Names as in data files: "system", "latest_reminder", "read_url", "v4_0731", "thinking", "max".
/// Each throws Error that lists the names there are.
ChatRole chat_role(const std::string& name);
ChatTask chat_task(const std::string& name);
ChatProfile chat_profile(const std::string& name);
ChatMode chat_mode(const std::string& name);
ReasoningEffort reasoning_effort(const std::string& name);

/// The messages of a JSON list like {"role": "user", "content": "..."}. `content` is a string,
/// null, or a list of text blocks, which are joined by an empty line. Reasoning is
/// `reasoning_content`, `reasoning` or `thinking`; `prefix` or `wo_eos` makes a message without an
/// end; `train` (true, false) or `weight` (at least 0) is its weight. `tools`, if not null, belongs
/// to the first system message, or to an empty one before all others. Throws Error with the path
/// ("messages[2].tool_calls[0].function.name: ...").
std::vector<ChatMessage> chat_messages(const OrderedJson& messages,
                                       const OrderedJson* tools = nullptr);

}  // namespace braid
