#pragma once
// Who speaks in a conversation, and how it is rendered.
#include <array>
#include <optional>
#include <vector>

#include "core/config.h"

namespace braid {

enum class ChatRole { kSystem, kUser, kDeveloper, kAssistant, kTool, kLatestReminder };
inline auto enum_names(ChatRole) {
  return std::array{EnumName{"system", ChatRole::kSystem},
                    EnumName{"user", ChatRole::kUser},
                    EnumName{"developer", ChatRole::kDeveloper},
                    EnumName{"assistant", ChatRole::kAssistant},
                    EnumName{"tool", ChatRole::kTool},
                    EnumName{"latest_reminder", ChatRole::kLatestReminder}};
}

enum class ChatMode { kChat, kThinking };
inline auto enum_names(ChatMode) {
  return std::array{EnumName{"chat", ChatMode::kChat}, EnumName{"thinking", ChatMode::kThinking}};
}

/// How the models of a release read `reasoning_effort`. kV40731: low adds nothing, high and max a
/// paragraph each. kV4Preview: high adds nothing, max the paragraph that is high in the other one.
enum class ChatProfile { kV40731, kV4Preview };
inline auto enum_names(ChatProfile) {
  return std::array{EnumName{"v4_0731", ChatProfile::kV40731},
                    EnumName{"v4_preview", ChatProfile::kV4Preview}};
}

enum class ReasoningEffort { kLow, kHigh, kMax };
inline auto enum_names(ReasoningEffort) {
  return std::array{EnumName{"low", ReasoningEffort::kLow},
                    EnumName{"high", ReasoningEffort::kHigh},
                    EnumName{"max", ReasoningEffort::kMax}};
}

/// Which of the end tokens behind answers are trained: all; those of trained messages; the last of
/// the conversation; none.
enum class TrainOnEos { kAll, kTurn, kLast, kNone };
inline auto enum_names(TrainOnEos) {
  return std::array{EnumName{"all", TrainOnEos::kAll},
                    EnumName{"turn", TrainOnEos::kTurn},
                    EnumName{"last", TrainOnEos::kLast},
                    EnumName{"none", TrainOnEos::kNone}};
}

/// What of a conversation is trained. By default all that the assistant produced.
struct ChatTraining {
  std::vector<ChatRole> roles = {ChatRole::kAssistant};  ///< a message's own weight decides first
  TrainOnEos on_end = TrainOnEos::kTurn;
  bool last_answer_only = false;
  /// Also answers before the last question where reasoning is left out: they are then read behind
  /// another prompt than the one they were given for.
  bool rewritten_history = true;
};

struct ChatOptions {
  ChatProfile profile = ChatProfile::kV40731;
  ChatMode mode = ChatMode::kThinking;
  std::optional<ReasoningEffort> effort = {};  ///< none: nothing is added
  /// Reasoning before the last user message is left out, unless some message declares tools.
  bool drop_thinking = true;
  bool begin_token = true;
  /// The header of an answer comes after a reminder that precedes it; else before it, as in vLLM.
  bool header_after_reminder = true;
  ChatTraining training = {};
};

}  // namespace braid
