#include "data/chat.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "data/byte_tokenizer.h"
#include "data/chat_answer.h"
#include "data/chat_render.h"
#include "tests/loading/corpus.h"
#include "tests/loading/v4_file.h"

namespace braid::testing {
namespace {

/// A conversation of the reference files.
struct Row {
  OrderedJson json;

  const OrderedJson& at(const char* key) const { return *json.find(key); }
  bool has(const char* key) const {
    const OrderedJson* const value = json.find(key);
    return value != nullptr && value->kind != OrderedJson::Kind::kNull;
  }
  std::string tag() const { return at("tag").text; }

  std::vector<ChatMessage> messages() const {
    return chat_messages(at("messages"), json.find("tools"));
  }

  std::vector<ChatMessage> context() const {
    const OrderedJson* const messages = at("options").find("context");
    return messages == nullptr ? std::vector<ChatMessage>() : chat_messages(*messages);
  }

  // The module that made them writes headers before reminders.
  ChatOptions options() const {
    ChatOptions options{.header_after_reminder = false};
    for (const auto& [name, value] : at("options").members) {
      if (name == "thinking_mode") {
        options.mode = chat_mode(value.text);
      } else if (name == "reasoning_effort") {
        options.effort = reasoning_effort(value.text);
      } else if (name == "drop_thinking") {
        options.drop_thinking = value.text == "true";
      } else if (name == "add_default_bos_token") {
        options.begin_token = value.text == "true";
      } else {
        EXPECT_EQ(name, "context");
      }
    }
    return options;
  }
};

std::vector<Row> conversations() {
  std::vector<Row> rows;
  for (const std::string& line : lines_of("chat/v4_conversations.jsonl")) {
    rows.push_back({parse_ordered_json(line)});
  }
  return rows;
}

// Code points, as the reference counts.
std::size_t length_of(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::vector<std::pair<std::size_t, std::size_t>> spans_of(const RenderedChat& chat) {
  std::vector<std::pair<std::size_t, std::size_t>> spans;
  std::size_t at = 0;
  bool before = false;
  for (const ChatSegment& segment : chat.segments()) {
    const std::size_t end = at + length_of(segment.text);
    if (segment.trained && before) {
      spans.back().second = end;
    } else if (segment.trained) {
      spans.emplace_back(at, end);
    }
    before = segment.trained;
    at = end;
  }
  return spans;
}

TEST(Chat, IsRenderedAsTheReferenceDoesWithItsSpans) {
  int compared = 0;
  for (const Row& row : conversations()) {
    if (row.tag() == "error") {
      continue;
    }
    SCOPED_TRACE(row.tag() + " " + python_json(row.at("messages")));
    const RenderedChat chat(row.messages(), row.options(), row.context());
    EXPECT_EQ(chat.text(), row.at("prompt").text);
    std::vector<std::pair<std::size_t, std::size_t>> spans;
    for (const OrderedJson& span : row.at("assistant_spans").items) {
      spans.emplace_back(std::stoull(span.items[0].text), std::stoull(span.items[1].text));
    }
    EXPECT_EQ(spans_of(chat), spans);
    ++compared;
  }
  EXPECT_EQ(compared, 88);
}

bool spells_special_tokens(const RenderedChat& chat) {
  return std::any_of(chat.segments().begin(), chat.segments().end(), [](const auto& segment) {
    return !segment.special &&
           v4_tokenizer().encode_spelled(segment.text) != v4_tokenizer().encode(segment.text);
  });
}

// Where the assistant's first word follows another one, both would be one token.
bool words_meet(const RenderedChat& chat) {
  for (std::size_t i = 1; i < chat.segments().size(); ++i) {
    if (!chat.segments()[i].special && !chat.segments()[i - 1].special) {
      return true;
    }
  }
  return false;
}

TEST(Chat, HasTheIdsOfItsWholeText) {
  int compared = 0;
  for (const Row& row : conversations()) {
    if (row.tag() == "error") {
      continue;
    }
    const RenderedChat chat(row.messages(), row.options(), row.context());
    if (words_meet(chat)) {
      EXPECT_EQ(row.tag(), "latest_reminder");
      continue;
    }
    if (spells_special_tokens(chat)) {
      EXPECT_TRUE(row.tag() == "special_in_text" || row.tag() == "tool_call") << row.tag();
      continue;
    }
    std::vector<int64_t> expected;
    for (const OrderedJson& id : row.at("ids").items) {
      expected.push_back(std::stoll(id.text));
    }
    EXPECT_EQ(chat.encode(v4_tokenizer()).ids, expected) << row.tag() << " " << chat.text();
    ++compared;
  }
  EXPECT_EQ(compared, 85);
}

TEST(Chat, PutsTheHeaderBehindAReminderUnlessAskedOtherwise) {
  int compared = 0;
  for (const Row& row : conversations()) {
    if (row.tag() == "latest_reminder" && row.has("reference_prompt")) {
      ChatOptions options = row.options();
      options.header_after_reminder = true;
      EXPECT_EQ(RenderedChat(row.messages(), options).text(), row.at("reference_prompt").text);
      ++compared;
    }
  }
  EXPECT_GE(compared, 1);
}

TEST(Chat, RefusesWhatTheReferenceRefuses) {
  int refused = 0;
  for (const Row& row : conversations()) {
    if (row.tag() == "error") {
      error_of([&] { RenderedChat(row.messages(), row.options()); });
      ++refused;
    }
  }
  EXPECT_EQ(refused, 5);
}

struct TokenizerWithoutChat : ByteTokenizer {
  std::optional<int64_t> special_id(std::string_view) const override { return std::nullopt; }
};

std::vector<ChatMessage> messages_of(const std::string& json) {
  return chat_messages(parse_ordered_json(json));
}

TEST(Chat, SpecialTokensInMessagesStayText) {
  for (const Row& row : conversations()) {
    if (row.tag() != "special_in_text") {
      continue;
    }
    const RenderedChat chat(row.messages(), row.options());
    const auto encoded = chat.encode(v4_tokenizer());
    EXPECT_EQ(v4_tokenizer().decode(encoded.ids, SpecialTokens::kSpell), row.at("prompt").text);
    std::vector<std::string> special;
    for (const int64_t id : encoded.ids) {
      if (v4_tokenizer().byte_length(id) == 0) {
        special.push_back(v4_tokenizer().decode({id}, SpecialTokens::kSpell));
      }
    }
    EXPECT_EQ(special,
              (std::vector<std::string>{"<｜begin▁of▁sentence｜>",
                                        "<｜User｜>",
                                        "<｜Assistant｜>",
                                        "<think>",
                                        "</think>",
                                        "<｜end▁of▁sentence｜>"}));
  }
}

TEST(Chat, ProfilesReadTheEffortTheirOwnWay) {
  const auto messages = messages_of(R"([{"role": "user", "content": "x"}])");
  const auto rendered = [&](const char* profile, const char* effort) {
    return RenderedChat(messages,
                        {.profile = chat_profile(profile), .effort = reasoning_effort(effort)})
        .text();
  };
  const std::string plain = RenderedChat(messages, {}).text();
  EXPECT_EQ(rendered("v4_0731", "low"), plain);
  EXPECT_EQ(rendered("v4_preview", "high"), plain);
  EXPECT_NE(rendered("v4_0731", "high"), plain);
  EXPECT_EQ(rendered("v4_preview", "max"), rendered("v4_0731", "high"));
  EXPECT_NE(rendered("v4_0731", "max"), rendered("v4_0731", "high"));
  expect_mentions(error_of([&] { rendered("v4_preview", "low"); }), {"'low'", "v4_preview"});
}

TEST(Chat, TrainedTokensAreTheAssistantsOwn) {
  const ByteTokenizer bytes;
  const auto chat = RenderedChat(
      messages_of(R"([{"role": "user", "content": "ab"}, {"role": "assistant", "content": "cd",
                       "reasoning": "r"}])"),
      {});
  const auto encoded = chat.encode(bytes);
  EXPECT_EQ(encoded.ids,
            (std::vector<int64_t>{
                0, 259, 3 + 'a', 3 + 'b', 260, 261, 3 + 'r', 262, 3 + 'c', 3 + 'd', 1}));
  EXPECT_EQ(encoded.trained, (std::vector<TargetSpan>{{6, 11}}));
}

TEST(Chat, NamesThePathOfWhatIsWrong) {
  const auto message = [](const std::string& json) { return error_of([&] { messages_of(json); }); };
  expect_mentions(message("{}"), {"messages: is an object; expected a list"});
  expect_mentions(message("[3]"), {"messages[0]: is a number"});
  expect_mentions(message(R"([{"content": "x"}])"), {"messages[0].role: is missing"});
  expect_mentions(message(R"([{"role": "robot"}])"),
                  {"messages[0].role: 'robot'", "latest_reminder"});
  expect_mentions(message(R"([{"role": "user", "content": 3}])"),
                  {"messages[0].content: is a number"});
  expect_mentions(message(R"([{"role": "user", "content": [{"type": "audio"}]}])"),
                  {"messages[0].content[0].type: 'audio'", "image_url"});
  expect_mentions(message(R"([{"role": "user", "task": "poem"}])"),
                  {"messages[0].task: 'poem'", "read_url"});
  expect_mentions(message(R"([{"role": "developer", "content": ""}])"),
                  {"messages[0].content: is empty"});
  const auto call = [&](const std::string& function) {
    return message(R"([{"role": "assistant", "tool_calls": [{"function": )" + function + "}]}]");
  };
  expect_mentions(call("3"), {"messages[0].tool_calls[0].function: is a number"});
  expect_mentions(call("{}"), {"messages[0].tool_calls[0].function.name: is missing"});
  expect_mentions(call(R"({"name": "f", "arguments": "{"})"),
                  {"function.arguments: the string is not valid JSON"});
  expect_mentions(call(R"({"name": "f", "arguments": "[1]"})"), {"function.arguments: is a list"});
  EXPECT_EQ(messages_of(R"([{"role": "assistant", "prefix": true}])")[0].without_end, true);
  expect_mentions(
      error_of([] {
        RenderedChat(messages_of(R"([{"role": "user"}])"), {}).encode(TokenizerWithoutChat());
      }),
      {"the tokenizer bytes has no token '<｜begin▁of▁sentence｜>'"});
}

TEST(OrderedJson, PrintsAsPythonDoes) {
  const auto printed = [](const std::string& json) {
    return python_json(parse_ordered_json(json));
  };
  EXPECT_EQ(
      printed(R"({"b":1,"a":[1.0,-0.0,1e5,1E16,0.0001,0.00001,123456789012345680,-3e-7],"b":2})"),
      R"({"b": 2, "a": [1.0, -0.0, 100000.0, 1e+16, 0.0001, 1e-05, 123456789012345680, -3e-07]})");
  EXPECT_EQ(printed("100000000000000000000000"), "100000000000000000000000");
  EXPECT_EQ(printed("[1.7976931348623157e308, 5e-324, 0.1, 1234567.5]"),
            "[1.7976931348623157e+308, 5e-324, 0.1, 1234567.5]");
  EXPECT_EQ(printed(R"(["é\u0001\n\"\\/", {}, [], null, true])"),
            R"(["é\u0001\n\"\\/", {}, [], null, true])");
  for (const std::string bad : {"[1,", "1e400", "NaN", "{} x", "\"\\ud800\""}) {
    expect_mentions(error_of([&] { printed(bad); }), {"is not valid JSON at byte"});
  }
  expect_mentions(error_of([&] { printed(std::string(200, '[')); }), {"nested deeper than 100"});
}

TEST(ChatAnswer, ComesBackFromWhatWasRendered) {
  int compared = 0;
  for (const Row& row : conversations()) {
    if (row.tag() == "error" || row.tag() == "special_in_text") {
      continue;
    }
    const auto messages = row.messages();
    if (messages.empty() || messages.back().role != ChatRole::kAssistant ||
        messages.back().without_end || messages.back().task ||
        (messages.size() > 1 && messages[messages.size() - 2].task)) {
      continue;
    }
    const ChatMessage& last = messages.back();
    const auto mode = row.options().mode;
    const RenderedChat chat(messages, row.options(), row.context());
    std::string own;
    for (const ChatSegment& segment : chat.segments()) {
      own = segment.trained ? own + segment.text : "";
    }
    ChatAnswer expected{
        mode == ChatMode::kThinking ? last.reasoning : "", last.content, last.tool_calls};
    for (ToolCall& call : expected.tool_calls) {
      call.id.clear();
    }
    if (own.find("</｜DSML｜parameter></｜DSML｜parameter>") != std::string::npos) {
      error_of([&] { parse_answer(own, mode); });  // an argument that spells the tag
      continue;
    }
    EXPECT_EQ(parse_answer(own, mode), expected) << own;
    EXPECT_EQ(parse_answer(own, mode, AnswerForm::kLenient), expected) << own;
    ++compared;
  }
  EXPECT_GE(compared, 20);
}

TEST(ChatAnswer, StrictFormRefusesWhatDeviates) {
  const std::string end = "<｜end▁of▁sentence｜>";
  const auto message = [](const std::string& text, ChatMode mode = ChatMode::kChat) {
    return error_of([&] { parse_answer(text, mode); });
  };
  const std::string open = "x\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f\">\n";
  const std::string one = "<｜DSML｜parameter name=\"a\" string=\"true\">1</｜DSML｜parameter>\n";
  const std::string close = "</｜DSML｜invoke>\n</｜DSML｜tool_calls>";
  EXPECT_EQ(parse_answer(open + one + close + end, ChatMode::kChat).tool_calls.size(), 1u);
  expect_mentions(message("x"), {"[answer] byte 1", end});
  expect_mentions(message("x" + end, ChatMode::kThinking), {"'</think>' is missing"});
  expect_mentions(message("<think>x" + end), {"holds '<think>'"});
  expect_mentions(message("x" + end + "y"), {"follows the end token"});
  expect_mentions(message(open + one + one + close + end), {"'a' comes twice"});
  expect_mentions(message(open + one + close + "y" + end), {"expected '" + end});
  expect_mentions(message(open + one + "</｜DSML｜invoke></｜DSML｜tool_calls>" + end),
                  {"expected '\n'"});
  expect_mentions(
      message(open + "<｜DSML｜parameter name=\"a\" string=\"false\">{</｜DSML｜parameter>\n" +
              close + end),
      {"is not valid JSON"});
}

TEST(ChatAnswer, LenientFormTakesWhatModelsWrite) {
  const auto parsed = [](const std::string& text,
                         ChatMode mode = ChatMode::kChat,
                         const std::vector<OrderedJson>& tools = {}) {
    return parse_answer(text, mode, AnswerForm::kLenient, tools);
  };
  using Arguments = std::vector<OrderedJson::Member>;
  const auto number = parse_ordered_json("1");
  EXPECT_EQ(parsed("only reasons", ChatMode::kThinking), (ChatAnswer{"only reasons", "", {}}));
  const auto within = parsed(
      "r<｜DSML｜toolcalls>\n<｜DSML｜invoke name=\"f\">\n{\"a\": 1}\n</｜DSML｜invoke> rest",
      ChatMode::kThinking);
  EXPECT_EQ(within, (ChatAnswer{"r", "", {{.name = "f", .arguments = Arguments{{"a", number}}}}}));
  const auto loose = parsed(
      "c\n\n<｜DSML｜tool>\n<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter "
      "name=\"a\">1</｜DSML｜parameter>\n"
      "<｜DSML｜parameter name=\"b\">text\n</｜DSML｜invoke>\n<｜DSML｜invoke name=\"g\">\n");
  EXPECT_EQ(
      loose,
      (ChatAnswer{
          "",
          "c",
          {{.name = "f", .arguments = Arguments{{"a", number}, {"b", OrderedJson::string("text")}}},
           {.name = "g"}}}));
  const std::vector<OrderedJson> tools = {parse_ordered_json(
      R"({"function": {"name": "f", "parameters": {"properties": {"a": {}}}}})")};
  const std::string wrapped =
      "<｜DSML｜tool_calls><｜DSML｜invoke name=\"f\"><｜DSML｜parameter name=\"input\" "
      "string=\"false\">{\"a\": 1}"
      "</｜DSML｜parameter></｜DSML｜invoke>";
  EXPECT_EQ(parsed(wrapped, ChatMode::kChat, tools).tool_calls[0].arguments,
            (Arguments{{"a", number}}));
  EXPECT_EQ(parsed(wrapped).tool_calls[0].arguments[0].first, "input");
  for (std::size_t size = 0; size <= wrapped.size(); ++size) {
    parsed(wrapped.substr(0, size));
  }
}

}  // namespace
}  // namespace braid::testing
