#include <cmath>
#include <cstdlib>
#include <utility>

#include "core/error.h"
#include "data/chat.h"

namespace braid {
namespace {

using Kind = OrderedJson::Kind;

template <class Value>
Value value_named(const std::string& name, const char* what) {
  std::string known;
  for (const auto& [spelling, value] : enum_names(Value{})) {
    if (name == spelling) {
      return value;
    }
    known += (known.empty() ? "" : ", ") + std::string(spelling);
  }
  fail("'", name, "' is no ", what, "; expected one of ", known);
}

// Not a token of V4's tokenizer: a model of text reads it letter by letter.
constexpr const char* kImage = "<｜deepseek_image｜>";

/// A value of a conversation with its path.
struct ChatPlace {
  const OrderedJson* value;  // nullptr: there is none
  std::string path;

  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(path, ": ", parts...);
  }

  bool is_absent() const { return value == nullptr || value->kind == Kind::kNull; }

  void expect(Kind kind, const char* expected) const {
    if (value == nullptr || value->kind != kind) {
      refuse(value == nullptr ? "is missing" : "is " + std::string(kind_name(*value)),
             "; expected ",
             expected);
    }
  }

  ChatPlace at(const char* key) const { return {value->find(key), path + "." + key}; }
  ChatPlace item(std::size_t i) const { return {&value->items[i], braid::text(path, "[", i, "]")}; }

  std::string string() const {
    expect(Kind::kString, "a string");
    return value->text;
  }
  std::string string_or_none() const { return is_absent() ? "" : string(); }

  bool flag() const {
    if (is_absent()) {
      return false;
    }
    expect(Kind::kBoolean, "true or false");
    return value->text == "true";
  }

  template <class Convert>
  auto named(const Convert& convert) const {
    try {
      return convert(string());
    } catch (const Error& error) {
      const std::string message = error.what();
      fail(message.starts_with(path) ? "" : path + ": ", message);
    }
  }
};

std::string content_of(const ChatPlace& content) {
  if (content.is_absent()) {
    return "";
  }
  if (content.value->kind == Kind::kString) {
    return content.value->text;
  }
  content.expect(Kind::kList, "a string, null, or a list of blocks");
  std::string result;
  for (std::size_t i = 0; i < content.value->items.size(); ++i) {
    const ChatPlace block = content.item(i);
    block.expect(Kind::kObject, "a block like {\"type\": \"text\", \"text\": \"...\"}");
    const std::string type = block.at("type").string();
    result += i > 0 ? "\n\n" : "";
    if (type == "text") {
      result += block.at("text").string();
    } else if (type == "image" || type == "image_url") {
      result += kImage;
    } else {
      block.at("type").refuse("'", type, "' is no kind of block; expected text, image, image_url");
    }
  }
  return result;
}

ToolCall tool_call_of(const ChatPlace& call) {
  call.expect(Kind::kObject, "an object");
  // {"id": ..., "function": {...}}, or the function alone
  const ChatPlace within = call.at("function");
  const ChatPlace& function = within.value == nullptr ? call : within;
  function.expect(Kind::kObject, "an object");
  ToolCall result;
  result.id = call.at("id").string_or_none();
  result.name = function.at("name").string();
  const ChatPlace arguments = function.at("arguments");
  if (arguments.is_absent()) {
    return result;
  }
  OrderedJson parsed;
  if (arguments.value->kind == Kind::kString) {
    try {
      parsed = parse_ordered_json(arguments.value->text);
    } catch (const Error& error) {
      arguments.refuse("the string ", error.what());
    }
  } else {
    parsed = *arguments.value;
  }
  ChatPlace{&parsed, arguments.path}.expect(Kind::kObject, "an object, or a string that holds one");
  result.arguments = std::move(parsed.members);
  return result;
}

// One JSON schema each: the function alone where it is within {"type": "function", ...}.
std::vector<std::string> schemas_of(const ChatPlace& tools) {
  std::vector<std::string> result;
  if (tools.is_absent()) {
    return result;
  }
  tools.expect(Kind::kList, "a list");
  for (std::size_t i = 0; i < tools.value->items.size(); ++i) {
    const ChatPlace tool = tools.item(i);
    tool.expect(Kind::kObject, "an object");
    const ChatPlace function = tool.at("function");
    if (function.value != nullptr) {
      function.expect(Kind::kObject, "an object");
    }
    result.push_back(python_json(function.value == nullptr ? *tool.value : *function.value));
  }
  return result;
}

// `train`, else `weight`.
std::optional<float> weight_of(const ChatPlace& message) {
  if (const auto train = message.at("train"); !train.is_absent()) {
    return train.flag() ? 1.0f : 0.0f;
  }
  const auto weight = message.at("weight");
  if (weight.is_absent()) {
    return std::nullopt;
  }
  weight.expect(Kind::kNumber, "a number");
  const float value = std::strtof(weight.value->text.c_str(), nullptr);
  if (!(value >= 0 && std::isfinite(value))) {
    weight.refuse("is ", weight.value->text, "; expected a number of at least 0");
  }
  return value;
}

ChatMessage message_of(const ChatPlace& place) {
  place.expect(Kind::kObject, "an object like {\"role\": \"user\", \"content\": \"...\"}");
  ChatMessage message;
  message.role = place.at("role").named(chat_role);
  message.content = content_of(place.at("content"));
  if (message.role == ChatRole::kDeveloper && message.content.empty()) {
    place.at("content").refuse("is empty, which a developer message must not be");
  }
  for (const char* key : {"reasoning_content", "reasoning", "thinking"}) {
    if (const auto reasoning = place.at(key); !reasoning.is_absent()) {
      message.reasoning = reasoning.string();
      break;
    }
  }
  if (const auto calls = place.at("tool_calls"); !calls.is_absent()) {
    calls.expect(Kind::kList, "a list");
    for (std::size_t i = 0; i < calls.value->items.size(); ++i) {
      message.tool_calls.push_back(tool_call_of(calls.item(i)));
    }
  }
  message.tool_call_id = place.at("tool_call_id").string_or_none();
  message.tools = schemas_of(place.at("tools"));
  if (const auto format = place.at("response_format"); !format.is_absent()) {
    message.response_format = python_json(*format.value);
  }
  if (const auto task = place.at("task"); !task.is_absent()) {
    message.task = task.named(chat_task);
  }
  message.weight = weight_of(place);
  message.without_end = place.at("wo_eos").flag() || place.at("prefix").flag();
  return message;
}

}  // namespace

ChatRole chat_role(const std::string& name) {
  return value_named<ChatRole>(name, "role");
}

ChatTask chat_task(const std::string& name) {
  return value_named<ChatTask>(name, "task");
}

ChatProfile chat_profile(const std::string& name) {
  return value_named<ChatProfile>(name, "chat profile");
}

ChatMode chat_mode(const std::string& name) {
  return value_named<ChatMode>(name, "thinking mode");
}

ReasoningEffort reasoning_effort(const std::string& name) {
  return value_named<ReasoningEffort>(name, "reasoning effort");
}

std::vector<ChatMessage> chat_messages(const OrderedJson& messages, const OrderedJson* tools) {
  const ChatPlace list{&messages, "messages"};
  list.expect(Kind::kList, "a list");
  std::vector<ChatMessage> result;
  for (std::size_t i = 0; i < messages.items.size(); ++i) {
    result.push_back(message_of(list.item(i)));
  }
  const auto schemas = schemas_of({tools, "tools"});
  if (!schemas.empty()) {
    std::size_t i = 0;
    while (i < result.size() && result[i].role != ChatRole::kSystem) {
      ++i;
    }
    if (i == result.size()) {
      i = 0;
      result.insert(result.begin(), ChatMessage{.role = ChatRole::kSystem});
    }
    result[i].tools = schemas;
  }
  return result;
}

}  // namespace braid
