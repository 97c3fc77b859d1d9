#pragma once
// The shapes in which people keep samples for fine-tuning, one JSON object a sample, brought into
// one: messages as the chat encoding takes them.
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/chat.h"
#include "data/ordered_json.h"
#include "data/sample_rules.h"

namespace braid {

/// What kind of fault a sample has, for tables.
enum class SampleFault {
  kNoJson,
  kKeys,
  kRoles,
  kFields,
  kMessages,
  kToolCalls,
  kEmpty,
  kNothingTrained,
  kTokens
};
/// "no JSON object", "an unknown role", ...
const char* name_of(SampleFault fault);

/// A sample is wrong; the reason follows "this line": "has no key 'messages'".
class SampleError : public std::runtime_error {
 public:
  SampleError(SampleFault fault, const std::string& reason)
      : std::runtime_error(reason), fault_(fault) {}
  SampleFault fault() const { return fault_; }

 private:
  SampleFault fault_;
};

/// The format whose keys these are, kAuto where none has them:
///   text        `text_key`
///   messages    messages
///   sharegpt    conversations
///   preference  chosen, rejected
///   alpaca      instruction, output
///   prompt      prompt, completion
///   tokens      input_ids or ids
/// The first of them that fits is it, so that what was text without samples stays text.
SampleFormat guess_format(const std::vector<std::string>& keys, const std::string& text_key);

/// The keys of a sample that its format reads; others may hold anything.
std::vector<std::string> keys_of(SampleFormat format, const std::string& text_key);

/// Of keys_of(), those that the sample has.
struct SampleFields {
  std::vector<std::pair<std::string, OrderedJson>> values;

  const OrderedJson* find(std::string_view key) const;
};

/// Reads the keys of a format out of a line of JSON. Throws SampleError.
SampleFields sample_fields(std::string_view line, SampleFormat format, const std::string& text_key);

/// The conversation of a sample, checked. What each format gives:
///   messages  as it is; `tools` also as a string that holds JSON
///   sharegpt  from -> role: human, user -> user; gpt, chatgpt, bot, assistant, model -> assistant;
///             observation, tool -> tool; function_call -> an assistant's tool call (its value is
///             {"name", "arguments"} as JSON); turns with role and content are messages; `system`
///             goes before all
///   alpaca    system; of each [question, answer] of `history` and of instruction + "\n" + input,
///             output a user's and an assistant's message
///   prompt    prompt and completion: a user's and an assistant's text, or messages
/// Throws SampleError: also for messages that no conversation can have: no message at all, a
/// missing or unknown role, an unknown field, an answer to nobody or to an answer, calls and
/// results of tools that do not match.
std::vector<ChatMessage> conversation_of(const SampleFields& sample, SampleFormat format);

/// The same of a preference: its prompt with what is under `answer_key`, chosen or rejected.
/// Messages there may begin with the prompt, which the sample then lacks.
std::vector<ChatMessage> prompt_with(const SampleFields& sample, const std::string& answer_key);

/// The weight of a sample: its number under `weight`, 1 where it has none. Throws SampleError for
/// anything else than a number of at least 0.
float sample_weight(const SampleFields& sample);

}  // namespace braid
