#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "data/chat.h"

namespace braid {

/// What an assistant said, taken apart.
struct ChatAnswer {
  std::string reasoning = {};
  std::string content = {};
  std::vector<ToolCall> tool_calls = {};  ///< without ids
  bool operator==(const ChatAnswer&) const = default;
};

/// kStrict: the exact form that RenderedChat writes. kLenient: what models also produce and servers
/// accept: no </think>, no end token, calls that begin within the reasoning, other spellings of the
/// block (toolcalls, tool), parameters without `string` or without their closing tag, a bare JSON
/// object in a call, text behind the calls.
enum class AnswerForm { kStrict, kLenient };

/// `text`: what follows the header of the answer, special tokens spelled out. `mode`: kThinking
/// where the header ended in <think>. `tools`: the functions' schemas; where the schema of a call
/// has no property `arguments` or `input` and its only argument is an object of that name, the
/// lenient form takes what is within it. Throws Error "[answer] ..." with the byte for what is not
/// in the form; the lenient one accepts any text.
ChatAnswer parse_answer(std::string_view text,
                        ChatMode mode,
                        AnswerForm form = AnswerForm::kStrict,
                        const std::vector<OrderedJson>& tools = {});

}  // namespace braid
