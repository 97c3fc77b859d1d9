#include "data/sample_format.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <set>
#include <utility>

#include "core/error.h"
#include "data/json_line.h"

namespace braid {
namespace {

using Kind = OrderedJson::Kind;

template <class... Parts>
[[noreturn]] void wrong(SampleFault fault, const Parts&... parts) {
  throw SampleError(fault, text(parts...));
}

bool is_null(const OrderedJson* value) {
  return value == nullptr || value->kind == Kind::kNull;
}

const OrderedJson& value_of(const SampleFields& sample, const std::string& key) {
  const OrderedJson* value = sample.find(key);
  if (value == nullptr) {
    wrong(SampleFault::kKeys, "has no key '", key, "'");
  }
  return *value;
}

const OrderedJson& value_of(const SampleFields& sample,
                            const std::string& key,
                            Kind kind,
                            const char* expected) {
  const OrderedJson& value = value_of(sample, key);
  if (value.kind != kind) {
    wrong(SampleFault::kKeys, "has ", kind_name(value), " under '", key, "'; expected ", expected);
  }
  return value;
}

const std::string& text_of(const SampleFields& sample, const std::string& key) {
  return value_of(sample, key, Kind::kString, "a string").text;
}

const OrderedJson& list_of(const SampleFields& sample, const std::string& key) {
  return value_of(sample, key, Kind::kList, "a list");
}

// Empty where the key is missing or null.
std::string optional_text(const SampleFields& sample, const std::string& key) {
  return is_null(sample.find(key)) ? "" : text_of(sample, key);
}

// JSON inside a string, as some datasets keep nested values.
OrderedJson parsed_within(const std::string& content, const std::string& where) {
  try {
    return parse_ordered_json(content);
  } catch (const Error&) {
    wrong(SampleFault::kKeys, "has a string that is no JSON ", where);
  }
}

OrderedJson object_of(std::vector<OrderedJson::Member> members) {
  return {Kind::kObject, {}, {}, std::move(members)};
}

OrderedJson message_json(const char* role, std::string content) {
  return object_of(
      {{"role", OrderedJson::string(role)}, {"content", OrderedJson::string(std::move(content))}});
}

OrderedJson list_json(std::vector<OrderedJson> items) {
  return {Kind::kList, {}, std::move(items), {}};
}

// {"name", "arguments"}, or a list of them.
OrderedJson call_message(const std::string& value, std::size_t turn) {
  const std::string where = text("in the function call of turn ", turn);
  OrderedJson calls = parsed_within(value, where);
  if (calls.kind != Kind::kList) {
    calls = list_json({std::move(calls)});
  }
  std::vector<OrderedJson> tool_calls;
  for (OrderedJson& call : calls.items) {
    const OrderedJson* name = call.find("name");
    if (name == nullptr || name->kind != Kind::kString) {
      wrong(SampleFault::kToolCalls, "has no name ", where);
    }
    tool_calls.push_back(object_of({{"function", std::move(call)}}));
  }
  auto message = message_json("assistant", "");
  message.members.emplace_back("tool_calls", list_json(std::move(tool_calls)));
  return message;
}

OrderedJson sharegpt_message(const OrderedJson& turn, std::size_t number) {
  static const std::set<std::string> users = {"human", "user"},
                                     assistants = {"gpt", "chatgpt", "bot", "assistant", "model"},
                                     results = {"observation", "tool"};
  if (turn.find("role") != nullptr && turn.find("from") == nullptr) {
    return turn;
  }
  const auto string_under = [&](const char* key) -> const std::string& {
    const OrderedJson* value = turn.find(key);
    if (value == nullptr || value->kind != Kind::kString) {
      wrong(SampleFault::kMessages, "has no string under '", key, "' of turn ", number);
    }
    return value->text;
  };
  const std::string& from = string_under("from");
  const std::string& value = string_under("value");
  const char* role = users.contains(from)                                   ? "user"
                     : assistants.contains(from) || from == "function_call" ? "assistant"
                     : results.contains(from)                               ? "tool"
                     : from == "system"                                     ? "system"
                                                                            : nullptr;
  if (role == nullptr) {
    wrong(SampleFault::kRoles,
          "has '",
          from,
          "' under 'from' of turn ",
          number,
          "; expected human, gpt, system, observation or function_call");
  }
  auto message = from == "function_call" ? call_message(value, number) : message_json(role, value);
  for (const char* key : {"weight", "train"}) {
    if (const OrderedJson* own = turn.find(key)) {
      message.members.emplace_back(key, *own);
    }
  }
  return message;
}

OrderedJson sharegpt_messages(const SampleFields& sample) {
  std::vector<OrderedJson> messages;
  if (auto system = optional_text(sample, "system"); !system.empty()) {
    messages.push_back(message_json("system", std::move(system)));
  }
  std::size_t number = 0;
  for (const OrderedJson& turn : list_of(sample, "conversations").items) {
    messages.push_back(sharegpt_message(turn, ++number));
  }
  return list_json(std::move(messages));
}

OrderedJson alpaca_messages(const SampleFields& sample) {
  std::vector<OrderedJson> messages;
  if (auto system = optional_text(sample, "system"); !system.empty()) {
    messages.push_back(message_json("system", std::move(system)));
  }
  if (!is_null(sample.find("history"))) {
    for (const OrderedJson& turn : list_of(sample, "history").items) {
      if (turn.items.size() != 2 || turn.items[0].kind != Kind::kString ||
          turn.items[1].kind != Kind::kString) {
        wrong(SampleFault::kMessages, "has something else than [question, answer] in 'history'");
      }
      messages.push_back(message_json("user", turn.items[0].text));
      messages.push_back(message_json("assistant", turn.items[1].text));
    }
  }
  std::string question = text_of(sample, "instruction");
  if (const auto input = optional_text(sample, "input"); !input.empty()) {
    question += "\n" + input;
  }
  messages.push_back(message_json("user", std::move(question)));
  messages.push_back(message_json("assistant", text_of(sample, "output")));
  return list_json(std::move(messages));
}

void append_turns(const SampleFields& sample,
                  const std::string& key,
                  const char* role,
                  std::vector<OrderedJson>& messages) {
  const OrderedJson& value = value_of(sample, key);
  if (value.kind == Kind::kString) {
    messages.push_back(message_json(role, value.text));
  } else if (value.kind == Kind::kList) {
    messages.insert(messages.end(), value.items.begin(), value.items.end());
  } else if (value.kind == Kind::kObject) {
    messages.push_back(value);
  } else {
    wrong(SampleFault::kKeys,
          "has ",
          kind_name(value),
          " under '",
          key,
          "'; expected a string or messages");
  }
}

// What a message of a sample may have; others are likely to be misspelt.
void check_fields(const OrderedJson& message, std::size_t i) {
  static const std::set<std::string> known = {"role",
                                              "content",
                                              "name",
                                              "reasoning_content",
                                              "reasoning",
                                              "thinking",
                                              "tool_calls",
                                              "tool_call_id",
                                              "tools",
                                              "response_format",
                                              "task",
                                              "prefix",
                                              "wo_eos",
                                              "weight",
                                              "train"};
  if (message.kind != Kind::kObject) {
    wrong(SampleFault::kMessages,
          "has ",
          kind_name(message),
          " as messages[",
          i,
          "]; expected an object like {\"role\": \"user\", \"content\": \"...\"}");
  }
  const OrderedJson* role = message.find("role");
  if (role == nullptr || role->kind != Kind::kString) {
    wrong(SampleFault::kRoles,
          role == nullptr ? "has no role in messages[" : "has no string as role in messages[",
          i,
          "]; expected system, user, assistant, tool, developer or latest_reminder");
  }
  try {
    chat_role(role->text);
  } catch (const Error& error) {
    wrong(SampleFault::kRoles, "has a wrong role in messages[", i, "]: ", error.what());
  }
  for (const auto& [name, value] : message.members) {
    if (!known.contains(name) && value.kind != Kind::kNull) {
      wrong(SampleFault::kFields,
            "has the unknown field '",
            name,
            "' in messages[",
            i,
            "]; fields are ",
            joined(std::vector<std::string>(known.begin(), known.end())));
    }
  }
}

/// Follows calls of tools through a conversation.
class CallCheck {
 public:
  void look_at(const ChatMessage& message, std::size_t i) {
    if (message.role == ChatRole::kTool) {
      result(message, i);
      return;
    }
    require_answered(text("before messages[", i, "]"));
    calls_ = results_ = 0;
    open_.clear();
    for (const ToolCall& call : message.tool_calls) {
      if (message.role != ChatRole::kAssistant) {
        wrong(
            SampleFault::kToolCalls, "has tool calls that are no assistant's in messages[", i, "]");
      }
      ++calls_;
      if (!call.id.empty() && !open_.insert(call.id).second) {
        wrong(
            SampleFault::kToolCalls, "has the call id '", call.id, "' twice in messages[", i, "]");
      }
    }
    has_ids_ = !open_.empty();
  }

  // A conversation may end with calls, for they are answers; not with some of their results.
  void at_end() const {
    if (results_ > 0) {
      require_answered("at its end");
    }
  }

 private:
  void result(const ChatMessage& message, std::size_t i) {
    if (++results_ > calls_) {
      wrong(SampleFault::kToolCalls,
            "has a tool's result without a call (messages[",
            i,
            "]): the assistant's message before it makes ",
            calls_);
    }
    if (has_ids_ && !message.tool_call_id.empty() && open_.erase(message.tool_call_id) == 0) {
      wrong(SampleFault::kToolCalls,
            "has a tool's result for the call '",
            message.tool_call_id,
            "' (messages[",
            i,
            "]), which is not open");
    }
  }

  void require_answered(const std::string& where) const {
    if (results_ != calls_) {
      wrong(SampleFault::kToolCalls,
            "has ",
            calls_,
            calls_ == 1 ? " tool call but " : " tool calls but ",
            results_,
            results_ == 1 ? " result " : " results ",
            where);
    }
  }

  std::size_t calls_ = 0, results_ = 0;
  std::set<std::string> open_;
  bool has_ids_ = false;
};

void check_turns(const std::vector<ChatMessage>& messages) {
  CallCheck calls;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    calls.look_at(messages[i], i);
    if (messages[i].role != ChatRole::kAssistant) {
      continue;
    }
    if (i == 0) {
      wrong(SampleFault::kMessages, "begins with an assistant's message, an answer to nobody");
    }
    if (messages[i - 1].role == ChatRole::kAssistant) {
      wrong(SampleFault::kMessages,
            "has two answers in a row (messages[",
            i,
            "]); the second has no question");
    }
  }
  calls.at_end();
}

std::vector<ChatMessage> checked_conversation(const OrderedJson& messages,
                                              const SampleFields& sample) {
  if (messages.items.empty()) {
    wrong(SampleFault::kEmpty, "has no messages");
  }
  for (std::size_t i = 0; i < messages.items.size(); ++i) {
    check_fields(messages.items[i], i);
  }
  OrderedJson tools;
  if (const OrderedJson* found = sample.find("tools"); found != nullptr) {
    const bool in_string = found->kind == Kind::kString;
    const bool blank = in_string && found->text.find_first_not_of(" \t\r\n") == std::string::npos;
    tools = blank       ? OrderedJson{}
            : in_string ? parsed_within(found->text, "under 'tools'")
                        : *found;
  }
  std::vector<ChatMessage> result;
  try {
    check_turns(chat_messages(messages));  // without the system message that tools may put first
    result = chat_messages(messages, &tools);
  } catch (const Error& error) {
    wrong(SampleFault::kMessages, "has a wrong message: ", error.what());
  }
  return result;
}

}  // namespace

const char* name_of(SampleFault fault) {
  switch (fault) {
    case SampleFault::kNoJson:
      return "no JSON object";
    case SampleFault::kKeys:
      return "a key is missing or wrong";
    case SampleFault::kRoles:
      return "a role is missing or unknown";
    case SampleFault::kFields:
      return "an unknown field of a message";
    case SampleFault::kMessages:
      return "a wrong message";
    case SampleFault::kToolCalls:
      return "tool calls and results do not match";
    case SampleFault::kEmpty:
      return "an empty conversation";
    case SampleFault::kNothingTrained:
      return "no trained token";
    case SampleFault::kTokens:
      return "wrong ids";
  }
  return "";
}

SampleFormat guess_format(const std::vector<std::string>& keys, const std::string& text_key) {
  const auto has = [&](const std::string& key) {
    return std::find(keys.begin(), keys.end(), key) != keys.end();
  };
  using F = SampleFormat;
  return has(text_key)                         ? F::kText
         : has("messages")                     ? F::kMessages
         : has("conversations")                ? F::kShareGpt
         : has("chosen") && has("rejected")    ? F::kPreference
         : has("instruction") && has("output") ? F::kAlpaca
         : has("prompt") && has("completion")  ? F::kPrompt
         : has("input_ids") || has("ids")      ? F::kTokens
                                               : F::kAuto;
}

std::vector<std::string> keys_of(SampleFormat format, const std::string& text_key) {
  switch (format) {
    case SampleFormat::kText:
      return {text_key};
    case SampleFormat::kMessages:
      return {"messages", "tools", "weight"};
    case SampleFormat::kShareGpt:
      return {"conversations", "system", "tools", "weight"};
    case SampleFormat::kAlpaca:
      return {"instruction", "input", "output", "system", "history", "weight"};
    case SampleFormat::kPrompt:
      return {"prompt", "completion", "tools", "weight"};
    case SampleFormat::kPreference:
      return {"prompt", "chosen", "rejected", "tools", "weight"};
    case SampleFormat::kTokens:
      return {"input_ids", "ids", "labels", "loss_mask", "targets", "weight"};
    case SampleFormat::kAuto:
      break;
  }
  return {};
}

const OrderedJson* SampleFields::find(std::string_view key) const {
  for (const auto& [name, value] : values) {
    if (name == key) {
      return &value;
    }
  }
  return nullptr;
}

SampleFields sample_fields(std::string_view line,
                           SampleFormat format,
                           const std::string& text_key) {
  const auto keys = keys_of(format, text_key);
  std::vector<std::optional<std::string_view>> values;
  if (const auto fault = take_json_values(line, keys, values); !fault.empty()) {
    throw SampleError(SampleFault::kNoJson, fault);
  }
  SampleFields result;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (!values[i]) {
      continue;
    }
    try {
      result.values.emplace_back(keys[i], parse_ordered_json(*values[i]));
    } catch (const Error& error) {
      wrong(
          SampleFault::kNoJson, "has a value under '", keys[i], "' that ", error.what(), " of it");
    }
  }
  return result;
}

std::vector<ChatMessage> conversation_of(const SampleFields& sample, SampleFormat format) {
  switch (format) {
    case SampleFormat::kMessages:
      return checked_conversation(list_of(sample, "messages"), sample);
    case SampleFormat::kShareGpt:
      return checked_conversation(sharegpt_messages(sample), sample);
    case SampleFormat::kAlpaca:
      return checked_conversation(alpaca_messages(sample), sample);
    case SampleFormat::kPrompt:
      return prompt_with(sample, "completion");
    default:
      fail("[sample] the format ", enum_name(format), " holds no conversations");
  }
}

std::vector<ChatMessage> prompt_with(const SampleFields& sample, const std::string& answer_key) {
  std::vector<OrderedJson> messages;
  const OrderedJson* answer = sample.find(answer_key);
  const bool is_whole = answer != nullptr && answer->kind == Kind::kList;  // may hold the prompt
  if (!is_whole || sample.find("prompt") != nullptr) {
    append_turns(sample, "prompt", "user", messages);
  }
  append_turns(sample, answer_key, "assistant", messages);
  return checked_conversation(list_json(std::move(messages)), sample);
}

float sample_weight(const SampleFields& sample) {
  const OrderedJson* found = sample.find("weight");
  if (is_null(found)) {
    return 1;
  }
  const float value = found->kind == Kind::kNumber ? std::strtof(found->text.c_str(), nullptr) : -1;
  if (!(value >= 0 && std::isfinite(value))) {
    wrong(SampleFault::kKeys,
          "has ",
          described(*found),
          " under 'weight'; expected a number of at least 0");
  }
  return value;
}

}  // namespace braid
