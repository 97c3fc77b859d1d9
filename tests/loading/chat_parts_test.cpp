#include "data/chat_parts.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "data/byte_tokenizer.h"
#include "data/chat.h"
#include "data/chat_render.h"
#include "tests/loading/v4_file.h"

namespace braid::testing {
namespace {

using Part = std::pair<ChatPart, std::string>;

std::vector<Part> parts_of(const std::string& spelled) {
  const ByteTokenizer tokenizer;
  const auto ids = tokenizer.encode_spelled(spelled);
  std::vector<Part> result;
  for (const auto& [begin, end, part] : ChatPartReader(tokenizer).parts(ids)) {
    const std::vector<int64_t> of_part(ids.begin() + begin, ids.begin() + end);
    result.emplace_back(part, tokenizer.decode(of_part, SpecialTokens::kSpell));
  }
  return result;
}

TEST(ChatParts, AreThoseOfMessagesReasoningCallsAndResults) {
  EXPECT_EQ(
      parts_of("Be brief.<｜User｜>Warm?<｜Assistant｜><think>hm</think>Wait.\n\n"
               "<｜DSML｜tool_calls>\nx</｜DSML｜tool_calls><｜end▁of▁sentence｜>"
               "<｜User｜><tool_result>-3</tool_result>\n\nAnd?<｜Assistant｜></think>No."
               "<｜end▁of▁sentence｜>"),
      (std::vector<Part>{{ChatPart::kSystem, "Be brief."},
                         {ChatPart::kHeader, "<｜User｜>"},
                         {ChatPart::kUser, "Warm?"},
                         {ChatPart::kHeader, "<｜Assistant｜><think>"},
                         {ChatPart::kReasoning, "hm</think>"},
                         {ChatPart::kText, "Wait."},
                         {ChatPart::kCalls, "\n\n<｜DSML｜tool_calls>\nx</｜DSML｜tool_calls>"},
                         {ChatPart::kEnd, "<｜end▁of▁sentence｜>"},
                         {ChatPart::kHeader, "<｜User｜>"},
                         {ChatPart::kTool, "<tool_result>-3</tool_result>"},
                         {ChatPart::kUser, "\n\nAnd?"},
                         {ChatPart::kHeader, "<｜Assistant｜></think>"},
                         {ChatPart::kText, "No."},
                         {ChatPart::kEnd, "<｜end▁of▁sentence｜>"}}));
}

TEST(ChatParts, OfDeclaredToolsAreTheSystemsAndATextHasNone) {
  // The declarations spell tokens of calls and of reasoning.
  EXPECT_EQ(
      parts_of("Tools: <｜DSML｜tool_calls> after <think></think><｜User｜>a<｜Assistant｜>"
               "</think>b"),
      (std::vector<Part>{{ChatPart::kSystem, "Tools: <｜DSML｜tool_calls> after <think></think>"},
                         {ChatPart::kHeader, "<｜User｜>"},
                         {ChatPart::kUser, "a"},
                         {ChatPart::kHeader, "<｜Assistant｜></think>"},
                         {ChatPart::kText, "b"}}));
  EXPECT_TRUE(parts_of("no conversation at all").empty());
  EXPECT_TRUE(parts_of("<｜User｜>nobody answers").empty());
}

TEST(ChatParts, OfTheAssistantAreTheTokensThatTheTemplateTrains) {
  int compared = 0;
  for (const std::string& line : lines_of("chat/v4_conversations.jsonl")) {
    const auto row = parse_ordered_json(line);
    if (row.find("tag")->text == "error" || row.find("options")->find("context") != nullptr) {
      continue;
    }
    const auto messages = chat_messages(*row.find("messages"), row.find("tools"));
    for (const auto mode : {ChatMode::kChat, ChatMode::kThinking}) {
      const auto rendered =
          RenderedChat(messages, {.mode = mode, .begin_token = false}).encode(v4_tokenizer());
      std::vector<bool> want(rendered.ids.size()), got(rendered.ids.size());
      for (const auto& span : rendered.trained) {
        std::fill(want.begin() + span.begin, want.begin() + span.end, true);
      }
      for (const auto& span : ChatPartReader(v4_tokenizer()).parts(rendered.ids)) {
        std::fill(got.begin() + span.begin, got.begin() + span.end, is_assistant(span.part));
      }
      EXPECT_EQ(got, want) << line;
      ++compared;
    }
  }
  EXPECT_GT(compared, 100);
}

TEST(ChatParts, TheLastAnswerFollowsItsHeaderAndEndsBeforeItsEndToken) {
  const ByteTokenizer tokenizer;
  const ChatPartReader reader(tokenizer);
  const auto answer_in = [&](const std::string& spelled) -> std::pair<std::string, std::string> {
    const auto ids = tokenizer.encode_spelled(spelled);
    const auto answer = reader.last_answer(ids);
    if (!answer) {
      return {"none", ""};
    }
    const auto decoded = [&](int64_t begin, int64_t end) {
      return tokenizer.decode({ids.begin() + begin, ids.begin() + end}, SpecialTokens::kSpell);
    };
    return {decoded(0, answer->begin), decoded(answer->begin, answer->end)};
  };
  using Pair = std::pair<std::string, std::string>;
  const std::string before =
      "<｜User｜>a<｜Assistant｜></think>b<｜end▁of▁sentence｜><｜User｜>c"
      "<｜Assistant｜><think>";
  EXPECT_EQ(answer_in(before + "d</think>e<｜end▁of▁sentence｜>"), (Pair{before, "d</think>e"}));
  EXPECT_EQ(answer_in(before + "d</think>e<｜end▁of▁sentence｜><｜User｜>f<｜Assistant｜></think>"),
            (Pair{before, "d</think>e"}));
  EXPECT_EQ(answer_in("<｜User｜>a<｜Assistant｜></think>").first, "none");
  EXPECT_EQ(answer_in("<｜User｜>a<｜title｜>b<｜end▁of▁sentence｜>"),
            (Pair{"<｜User｜>a<｜title｜>", "b"}));
  EXPECT_EQ(reader.last_answer(tokenizer.encode_spelled(before + "d"))->mode, ChatMode::kThinking);
}

}  // namespace
}  // namespace braid::testing
