#pragma once
// What is made of samples for fine-tuning: the keys of the section `data` that they have.
#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/config.h"
#include "data/chat_options.h"

namespace braid {

/// How a row of JSONL, or an item of a JSON array, holds what is trained; see sample_format.h.
enum class SampleFormat {
  kAuto,
  kText,
  kMessages,
  kShareGpt,
  kAlpaca,
  kPrompt,
  kPreference,
  kTokens
};
inline auto enum_names(SampleFormat) {
  using F = SampleFormat;
  return std::array{EnumName{"auto", F::kAuto},
                    EnumName{"text", F::kText},
                    EnumName{"messages", F::kMessages},
                    EnumName{"sharegpt", F::kShareGpt},
                    EnumName{"alpaca", F::kAlpaca},
                    EnumName{"prompt", F::kPrompt},
                    EnumName{"preference", F::kPreference},
                    EnumName{"tokens", F::kTokens}};
}

/// Whether conversations are rendered with reasoning. kAuto: where the last answer has some.
enum class Thinking { kAuto, kOn, kOff };
inline auto enum_names(Thinking) {
  return std::array{EnumName{"auto", Thinking::kAuto},
                    EnumName{"on", Thinking::kOn},
                    EnumName{"off", Thinking::kOff}};
}

/// What happens to a sample with more tokens than a sequence. kCut: its end is left out.
enum class TooLong { kDrop, kCut, kError };
inline auto enum_names(TooLong) {
  return std::array{EnumName{"drop", TooLong::kDrop},
                    EnumName{"cut", TooLong::kCut},
                    EnumName{"error", TooLong::kError}};
}

struct SampleRules {
  SampleFormat format = SampleFormat::kAuto;
  std::vector<ChatRole> roles_to_train = {ChatRole::kAssistant};
  TrainOnEos train_on_eos = TrainOnEos::kTurn;
  bool mask_history = false;
  Thinking thinking = Thinking::kAuto;
  bool drop_thinking = true;
  ChatProfile chat_profile = ChatProfile::kV40731;
  std::optional<ReasoningEffort> reasoning_effort = {};
  TooLong too_long = TooLong::kDrop;

  template <class Visitor>
  static void fields(Visitor& v) {
    using S = SampleRules;
    v("format", &S::format, "of JSONL rows and of the items of a JSON array; auto = by their keys");
    v("roles_to_train",
      &S::roles_to_train,
      "conversations: whose messages are trained; `weight` or `train` of a message decides first");
    v("train_on_eos",
      &S::train_on_eos,
      "conversations: end tokens that are trained: of all answers, of trained ones (turn), of the "
      "last one, none");
    v("mask_history", &S::mask_history, "conversations: only the last trained answer is trained");
    v("thinking",
      &S::thinking,
      "conversations: whether they are rendered with reasoning; auto = where the last answer has "
      "some");
    v("drop_thinking",
      &S::drop_thinking,
      "conversations: reasoning before the last question is left out, unless there are tools; "
      "answers before it are then not trained");
    v("chat_profile",
      &S::chat_profile,
      "conversations: which release's meaning of reasoning_effort");
    v("reasoning_effort",
      &S::reasoning_effort,
      "conversations with reasoning: the effort that their beginning asks for");
    v("too_long",
      &S::too_long,
      "samples with more tokens than seq_len: left out, cut at their end, or an error; text is "
      "always divided");
  }

  ChatOptions chat_options() const {
    return {.profile = chat_profile,
            .effort = reasoning_effort,
            .drop_thinking = drop_thinking,
            .begin_token = false,  // the loader's
            .training = {.roles = roles_to_train,
                         .on_end = train_on_eos,
                         .last_answer_only = mask_history,
                         .rewritten_history = false}};
  }
};

}  // namespace braid
