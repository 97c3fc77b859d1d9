#include "data/chat_answer.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "core/error.h"
#include "data/v4_tokens.h"

namespace braid {
namespace {

constexpr std::string_view kCallsBegin = "\n\n<｜DSML｜tool_calls>\n";
constexpr std::string_view kCallsEnd = "</｜DSML｜tool_calls>";
constexpr std::string_view kInvoke = "<｜DSML｜invoke name=\"";
constexpr std::string_view kInvokeEnd = "</｜DSML｜invoke>";
constexpr std::string_view kParameter = "<｜DSML｜parameter name=\"";
constexpr std::string_view kParameterEnd = "</｜DSML｜parameter>";

/// The exact form.
class StrictAnswer {
 public:
  explicit StrictAnswer(std::string_view text) : text_(text) {}

  ChatAnswer parse(ChatMode mode) {
    ChatAnswer answer;
    if (mode == ChatMode::kThinking) {
      answer.reasoning = plain(until(v4_tokens::kEndThink));
      skip(v4_tokens::kEndThink);
    }
    const auto calls = rest().find("\n\n<｜DSML｜tool_calls");
    const auto end = std::min(rest().find(v4_tokens::kEnd), rest().size());
    if (calls < end) {
      answer.content = plain(take(calls));
      skip(kCallsBegin);
      while (!rest().starts_with(kCallsEnd)) {
        answer.tool_calls.push_back(call());
      }
      skip(kCallsEnd);
    } else {
      answer.content = plain(take(end));
    }
    skip(v4_tokens::kEnd);
    if (!rest().empty()) {
      refuse("something follows the end token");
    }
    return answer;
  }

 private:
  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail("[answer] byte ", at_, ": ", parts...);
  }

  std::string_view rest() const { return text_.substr(at_); }

  std::string_view take(std::size_t size) {
    const auto taken = text_.substr(at_, size);
    at_ += size;
    return taken;
  }

  std::string_view until(std::string_view mark) {
    const auto size = rest().find(mark);
    if (size == std::string_view::npos) {
      refuse("'", mark, "' is missing");
    }
    return take(size);
  }

  void skip(std::string_view expected) {
    if (!rest().starts_with(expected)) {
      refuse("expected '", expected, "', found '", rest().substr(0, expected.size()), "'");
    }
    at_ += expected.size();
  }

  std::string plain(std::string_view part) const {
    for (const char* token : {v4_tokens::kBegin,
                              v4_tokens::kEnd,
                              v4_tokens::kThink,
                              v4_tokens::kEndThink,
                              v4_tokens::kDsml}) {
      if (part.find(token) != std::string_view::npos) {
        refuse("the text before holds '", token, "'");
      }
    }
    return std::string(part);
  }

  ToolCall call() {
    skip(kInvoke);
    ToolCall result{.name = std::string(until("\">\n"))};
    skip("\">\n");
    if (!rest().starts_with(kParameter)) {
      skip("\n");
    }
    while (rest().starts_with(kParameter)) {
      result.arguments.push_back(parameter());
      const auto& name = result.arguments.back().first;
      for (std::size_t i = 0; i + 1 < result.arguments.size(); ++i) {
        if (result.arguments[i].first == name) {
          refuse("the parameter '", name, "' comes twice");
        }
      }
    }
    skip(kInvokeEnd);
    skip("\n");
    return result;
  }

  OrderedJson::Member parameter() {
    skip(kParameter);
    std::string name(until("\" string=\""));
    skip("\" string=\"");
    const bool is_string = rest().starts_with("true\">");
    skip(is_string ? "true\">" : "false\">");
    const std::string value(until(kParameterEnd));
    skip(kParameterEnd);
    skip("\n");
    if (is_string) {
      return {std::move(name), OrderedJson::string(value)};
    }
    try {
      return {std::move(name), parse_ordered_json(value)};
    } catch (const Error& error) {
      refuse("the value of a parameter ", error.what());
    }
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

std::string_view trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t\r\n");
  return begin == text.npos ? std::string_view()
                            : text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

std::optional<OrderedJson> json_or_none(std::string_view text) {
  try {
    return parse_ordered_json(text);
  } catch (const Error&) {
    return std::nullopt;
  }
}

// The text between `mark` and the next `end` behind it.
std::optional<std::string> between(std::string_view text, std::string_view mark, char end) {
  const auto begin = text.find(mark);
  if (begin == text.npos) {
    return std::nullopt;
  }
  const auto from = begin + mark.size();
  return std::string(text.substr(from, text.find(end, from) - from));
}

/// Whatever can be made of a text.
class LenientAnswer {
 public:
  explicit LenientAnswer(const std::vector<OrderedJson>& tools) : tools_(tools) {}

  ChatAnswer parse(std::string_view text, ChatMode mode) const {
    ChatAnswer answer;
    text = text.substr(0, text.find(v4_tokens::kEnd));
    std::size_t calls = text.size();
    for (const std::string_view begin :
         {"<｜DSML｜tool_calls>", "<｜DSML｜toolcalls>", "<｜DSML｜tool>"}) {
      calls = std::min(calls, text.find(begin));
    }
    std::string_view words = text.substr(0, calls);
    if (calls < text.size() && words.ends_with("\n\n")) {
      words.remove_suffix(2);
    }
    if (mode == ChatMode::kThinking) {
      const auto end = words.find(v4_tokens::kEndThink);
      answer.reasoning = words.substr(0, end);
      words = end == words.npos ? std::string_view()
                                : words.substr(end + std::string_view(v4_tokens::kEndThink).size());
    }
    answer.content = words;
    for (auto rest = text.substr(calls); !rest.empty();) {
      const auto begin = rest.find(kInvoke);
      if (begin == rest.npos) {
        break;
      }
      rest.remove_prefix(begin);
      const auto end = std::min(rest.find(kInvokeEnd), rest.find(kInvoke, kInvoke.size()));
      answer.tool_calls.push_back(call(rest.substr(0, end)));
      rest = end == rest.npos ? std::string_view() : rest.substr(end);
    }
    return answer;
  }

 private:
  ToolCall call(std::string_view text) const {
    ToolCall result{.name = between(text, kInvoke, '"').value_or("")};
    auto body = text.substr(std::min(text.find('>'), text.size() - 1) + 1);
    auto at = body.find(kParameter);
    if (at == body.npos) {
      if (auto whole = json_or_none(trimmed(body));
          whole && whole->kind == OrderedJson::Kind::kObject) {
        result.arguments = std::move(whole->members);
      }
    }
    while (at != body.npos) {
      body.remove_prefix(at);
      at = body.find(kParameter, kParameter.size());
      add(result.arguments, parameter(body.substr(0, at)));
    }
    unwrap(result);
    return result;
  }

  static void add(std::vector<OrderedJson::Member>& arguments, OrderedJson::Member member) {
    for (auto& [name, value] : arguments) {
      if (name == member.first) {
        value = std::move(member.second);
        return;
      }
    }
    arguments.push_back(std::move(member));
  }

  static OrderedJson::Member parameter(std::string_view text) {
    const auto head = text.substr(0, text.find('>'));
    auto value = text.substr(std::min(head.size() + 1, text.size()));
    const auto end = value.find(kParameterEnd);
    value = end == value.npos ? trimmed(value) : value.substr(0, end);
    const auto is_string = between(head, "string=\"", '"');
    auto json = is_string == "true" ? std::nullopt : json_or_none(value);
    return {between(head, kParameter, '"').value_or(""),
            json ? std::move(*json) : OrderedJson::string(std::string(value))};
  }

  void unwrap(ToolCall& call) const {
    if (call.arguments.size() != 1 || call.arguments[0].second.kind != OrderedJson::Kind::kObject ||
        (call.arguments[0].first != "arguments" && call.arguments[0].first != "input")) {
      return;
    }
    for (const OrderedJson& tool : tools_) {
      const OrderedJson* const function = tool.find("function");
      const OrderedJson& schema = function != nullptr ? *function : tool;
      const OrderedJson* const name = schema.find("name");
      const OrderedJson* const parameters = schema.find("parameters");
      const OrderedJson* const properties =
          parameters != nullptr ? parameters->find("properties") : nullptr;
      if (name != nullptr && name->text == call.name && properties != nullptr &&
          properties->find(call.arguments[0].first) == nullptr) {
        auto within = std::move(call.arguments[0].second.members);
        call.arguments = std::move(within);
        return;
      }
    }
  }

  const std::vector<OrderedJson>& tools_;
};

}  // namespace

ChatAnswer parse_answer(std::string_view text,
                        ChatMode mode,
                        AnswerForm form,
                        const std::vector<OrderedJson>& tools) {
  return form == AnswerForm::kStrict ? StrictAnswer(text).parse(mode)
                                     : LenientAnswer(tools).parse(text, mode);
}

}  // namespace braid
