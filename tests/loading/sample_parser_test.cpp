// Samples in the shapes that people have become documents with targets.
#include "data/sample_parser.h"

#include <gtest/gtest.h>

#include "tests/loading/corpus.h"

namespace braid::testing {
namespace {

const ByteTokenizer kTokens;

std::vector<Document> parsed(const std::string& line,
                             SampleFormat format,
                             const SampleRules& rules = {}) {
  return SampleParser(format, rules, kTokens).parse(line);
}

std::string spelled(const Document& document) {
  return kTokens.decode(document.ids, SpecialTokens::kSpell);
}

/// Trained stretches in brackets, a weight behind them where it is not 1.
std::string marked(const std::string& line, SampleFormat format, const SampleRules& rules = {}) {
  const auto document = parsed(line, format, rules).front();
  std::string result;
  int64_t at = 0;
  const auto stretch = [&](int64_t end) {
    const std::vector<int64_t> ids(document.ids.begin() + at, document.ids.begin() + end);
    at = end;
    return kTokens.decode(ids, SpecialTokens::kSpell);
  };
  for (const auto& [begin, end, weight] : document.targets) {
    result += stretch(begin);
    result += "[" + stretch(end) + "]" + (weight == 1 ? "" : text(weight));
  }
  return result + stretch(static_cast<int64_t>(document.ids.size()));
}

/// The defaults but for one.
template <class T>
SampleRules with(T SampleRules::*member, const T& value) {
  SampleRules rules;
  rules.*member = value;
  return rules;
}

std::string of_messages(const std::string& messages, const SampleRules& rules = {}) {
  return marked(R"({"messages": [)" + messages + "]}", SampleFormat::kMessages, rules);
}

const std::string kUser = "<｜User｜>", kAnswer = "<｜Assistant｜></think>",
                  kThoughtful = "<｜Assistant｜><think>", kEos = "<｜end▁of▁sentence｜>";
const std::string kQ = R"({"role": "user", "content": "q"})",
                  kA = R"({"role": "assistant", "content": "a"})",
                  kB = R"({"role": "assistant", "content": "b"})",
                  kR = R"({"role": "assistant", "reasoning_content": "r", "content": "b"})";

TEST(SampleParser, TrainsWhatTheAssistantSaidAndItsEnd) {
  EXPECT_EQ(of_messages(kQ + "," + kA), kUser + "q" + kAnswer + "[a" + kEos + "]");
  EXPECT_EQ(of_messages(kQ + "," + kA + "," + kQ + "," + kB),
            kUser + "q" + kAnswer + "[a" + kEos + "]" + kUser + "q" + kAnswer + "[b" + kEos + "]");
}

TEST(SampleParser, ThinkingIsAutomaticByTheLastAnswer) {
  EXPECT_EQ(of_messages(kQ + "," + kR), kUser + "q" + kThoughtful + "[r</think>b" + kEos + "]");
  EXPECT_EQ(of_messages(kQ + "," + kR, with(&SampleRules::thinking, Thinking::kOff)),
            kUser + "q" + kAnswer + "[b" + kEos + "]");
  EXPECT_EQ(of_messages(kQ + "," + kA, with(&SampleRules::thinking, Thinking::kOn)),
            kUser + "q" + kThoughtful + "[</think>a" + kEos + "]");
}

TEST(SampleParser, AnswersWhoseReasoningIsLeftOutAreNotTrained) {
  const std::string two = kQ + "," + kR + "," + kQ + "," + kR;
  EXPECT_EQ(
      of_messages(two),
      kUser + "q" + kAnswer + "b" + kEos + kUser + "q" + kThoughtful + "[r</think>b" + kEos + "]");
  EXPECT_EQ(of_messages(two, with(&SampleRules::drop_thinking, false)),
            kUser + "q" + kThoughtful + "[r</think>b" + kEos + "]" + kUser + "q" + kThoughtful +
                "[r</think>b" + kEos + "]");
}

TEST(SampleParser, RolesWeightsAndHistoryChooseWhatIsTrained) {
  const std::string two = kQ + "," + kA + "," + kQ + "," + kB;
  EXPECT_EQ(of_messages(two, with(&SampleRules::mask_history, true)),
            kUser + "q" + kAnswer + "a" + kEos + kUser + "q" + kAnswer + "[b" + kEos + "]");
  EXPECT_EQ(
      of_messages(kQ + "," + kA,
                  with(&SampleRules::roles_to_train, {ChatRole::kUser, ChatRole::kAssistant})),
      kUser + "[q]" + kAnswer + "[a" + kEos + "]");
  EXPECT_EQ(of_messages(R"({"role": "user", "content": "q", "train": true},
                           {"role": "assistant", "content": "a", "weight": 0.5},)" +
                        kQ + R"(,{"role": "assistant", "content": "b", "weight": 0})"),
            kUser + "[q]" + kAnswer + "[a" + kEos + "]0.5" + kUser + "q" + kAnswer + "b" + kEos);
  EXPECT_EQ(marked(R"({"weight": 3, "messages": [)" + kQ +
                       R"(, {"role": "assistant", "content": "a", "weight": 0.5}]})",
                   SampleFormat::kMessages),
            kUser + "q" + kAnswer + "[a" + kEos + "]1.5");
}

TEST(SampleParser, EndTokensAreTrainedAsAsked) {
  const std::string two = kQ + R"(,{"role": "assistant", "content": "a", "weight": 0},)" + kQ +
                          "," + kB + "," + kQ + "," + kB;
  const std::string a = kUser + "q" + kAnswer + "a", b = kUser + "q" + kAnswer;
  const auto trained = [&](TrainOnEos on) {
    return of_messages(two, with(&SampleRules::train_on_eos, on));
  };
  const std::string end = kEos;
  EXPECT_EQ(trained(TrainOnEos::kTurn), a + end + b + "[b" + end + "]" + b + "[b" + end + "]");
  EXPECT_EQ(trained(TrainOnEos::kAll),
            a + "[" + end + "]" + b + "[b" + end + "]" + b + "[b" + end + "]");
  EXPECT_EQ(trained(TrainOnEos::kLast), a + end + b + "[b]" + end + b + "[b" + end + "]");
  EXPECT_EQ(trained(TrainOnEos::kNone), a + end + b + "[b]" + end + b + "[b]" + end);
}

TEST(SampleParser, OtherShapesGiveTheSameConversation) {
  const std::string expected = kUser + "q" + kAnswer + "[a" + kEos + "]";
  EXPECT_EQ(marked(R"({"conversations": [{"from": "human", "value": "q"},
                                         {"from": "gpt", "value": "a"}]})",
                   SampleFormat::kShareGpt),
            expected);
  EXPECT_EQ(marked(R"({"instruction": "q", "input": "", "output": "a"})", SampleFormat::kAlpaca),
            expected);
  EXPECT_EQ(marked(R"({"prompt": "q", "completion": "a"})", SampleFormat::kPrompt), expected);
  EXPECT_EQ(marked(R"({"prompt": [{"role": "user", "content": "q"}],
                       "completion": {"role": "assistant", "content": "a"}})",
                   SampleFormat::kPrompt),
            expected);
  EXPECT_EQ(marked(R"({"instruction": "q", "input": "x", "output": "a", "system": "S",
                       "history": [["c", "d"]]})",
                   SampleFormat::kAlpaca),
            "S" + kUser + "c" + kAnswer + "[d" + kEos + "]" + kUser + "q\nx" + kAnswer + "[a" +
                kEos + "]");
  const auto calls = marked(R"({"conversations": [{"from": "human", "value": "q"},
      {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1}}"},
      {"from": "observation", "value": "r"}, {"from": "gpt", "value": "a"}]})",
                            SampleFormat::kShareGpt);
  expect_mentions(calls, {"invoke name=\"f\"", "<tool_result>r</tool_result>" + kAnswer + "[a"});
}

TEST(SampleParser, APreferenceIsTwoDocumentsTheChosenOneFirst) {
  const auto pair =
      parsed(R"({"prompt": "q", "chosen": "c", "rejected": "r"})", SampleFormat::kPreference);
  ASSERT_EQ(pair.size(), 2u);
  EXPECT_EQ(spelled(pair[0]), kUser + "q" + kAnswer + "c" + kEos);
  EXPECT_EQ(spelled(pair[1]), kUser + "q" + kAnswer + "r" + kEos);
  EXPECT_FALSE(pair[0].with_previous);
  EXPECT_TRUE(pair[1].with_previous);
  EXPECT_EQ(spelled(parsed(
                R"({"chosen": [)" + kQ + "," + kA + R"(], "rejected": [)" + kQ + "," + kB + "]}",
                SampleFormat::kPreference)[1]),
            kUser + "q" + kAnswer + "b" + kEos);
}

TEST(SampleParser, IdsComeWithLabelsMasksOrSpans) {
  const auto targets = [](const std::string& line) {
    return parsed(line, SampleFormat::kTokens).front().targets;
  };
  using Spans = std::vector<TargetSpan>;
  EXPECT_EQ(targets(R"({"ids": [5, 6, 7]})"), (Spans{{0, 4}}));
  EXPECT_EQ(targets(R"({"ids": [5, 6, 1]})"), (Spans{{0, 3}}));
  EXPECT_EQ(targets(R"({"input_ids": [5, 6, 7], "labels": [-100, 6, 7]})"), (Spans{{1, 3}}));
  EXPECT_EQ(targets(R"({"input_ids": [5, 6, 7], "loss_mask": [0, 1, 0.5]})"),
            (Spans{{1, 2}, {2, 3, 0.5}}));
  EXPECT_EQ(targets(R"({"ids": [5, 6, 7], "targets": [[0, 1], [2, 4, 2]], "weight": 2})"),
            (Spans{{0, 1, 2}, {2, 4, 4}}));
  const auto begins =
      parsed(R"({"ids": [0, 6, 7], "loss_mask": [1, 0, 1]})", SampleFormat::kTokens);
  EXPECT_EQ(begins[0].ids, (std::vector<int64_t>{6, 7}));
  EXPECT_EQ(begins[0].targets, (Spans{{1, 2}}));
}

TEST(SampleParser, TheLineOfADocumentReadsBackToIt) {
  const auto document =
      parsed(R"({"ids": [5, 6, 7], "targets": [[0, 1], [2, 4, 0.3]]})", SampleFormat::kTokens)[0];
  const auto again = parsed(tokens_line(document), SampleFormat::kTokens)[0];
  EXPECT_EQ(again.ids, document.ids);
  EXPECT_EQ(again.targets, document.targets);
  EXPECT_EQ(again.content_hash, document.content_hash);
}

TEST(SampleParser, CuttingKeepsWhatFitsAndRefusesWhatIsThenNotTrained) {
  auto document = parsed(R"({"prompt": "q", "completion": "abc"})", SampleFormat::kPrompt)[0];
  ASSERT_EQ(num_inputs(document), 8);  // begin, User, q, Assistant, </think>, a, b, c
  cut_document(document, 8);
  EXPECT_EQ(document.ids.size(), 8u);
  cut_document(document, 6);
  EXPECT_EQ(spelled(document), kUser + "q" + kAnswer + "ab");
  EXPECT_EQ(document.targets, (std::vector<TargetSpan>{{4, 6}}));
  EXPECT_EQ(num_inputs(document), 6);
  try {
    cut_document(document, 4);
    ADD_FAILURE();
  } catch (const SampleError& error) {
    EXPECT_EQ(error.fault(), SampleFault::kNothingTrained);
    expect_mentions(error.what(), {"no trained token within its first 4 tokens"});
  }
}

struct Refusal {
  const char* line;
  SampleFormat format;
  SampleFault fault;
  std::vector<std::string> parts;
};

TEST(SampleParser, WhatIsNoSampleIsRefusedWithItsPlace) {
  using F = SampleFormat;
  using E = SampleFault;
  const std::vector<Refusal> refusals = {
      {"{", F::kMessages, E::kNoJson, {"is not valid JSON at byte 2"}},
      {"[]", F::kMessages, E::kNoJson, {"is a list"}},
      {R"({"message": []})", F::kMessages, E::kKeys, {"has no key 'messages'"}},
      {R"({"messages": 3})", F::kMessages, E::kKeys, {"a number under 'messages'", "a list"}},
      {R"({"messages": []})", F::kMessages, E::kEmpty, {"has no messages"}},
      {R"({"messages": [{"role": "user", "content": "half \ud83d"}]})",
       F::kMessages,
       E::kNoJson,
       {"'messages'", "not valid JSON"}},
      {R"({"messages": ["a"]})", F::kMessages, E::kMessages, {"a string as messages[0]"}},
      {R"({"messages": [{"content": "a"}]})", F::kMessages, E::kRoles, {"no role in messages[0]"}},
      {R"({"messages": [{"role": "robot", "content": "a"}]})",
       F::kMessages,
       E::kRoles,
       {"messages[0]", "'robot' is no role", "user"}},
      {R"({"messages": [{"role": "user", "content": "a", "reasonning": "b"}]})",
       F::kMessages,
       E::kFields,
       {"unknown field 'reasonning' in messages[0]", "reasoning_content"}},
      {R"({"messages": [{"role": "user", "content": 3}]})",
       F::kMessages,
       E::kMessages,
       {"messages[0].content", "a number"}},
      {R"({"messages": [{"role": "user", "content": "a"}]})",
       F::kMessages,
       E::kNothingTrained,
       {"no trained token"}},
      {R"({"messages": [{"role": "assistant", "content": "a"}]})",
       F::kMessages,
       E::kMessages,
       {"begins with an assistant's message"}},
      {R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "a"},
           {"role": "assistant", "content": "a"}]})",
       F::kMessages,
       E::kMessages,
       {"two answers in a row (messages[2])"}},
      {R"({"messages": [{"role": "user", "content": "a"}, {"role": "tool", "content": "a"}]})",
       F::kMessages,
       E::kToolCalls,
       {"result without a call (messages[1])"}},
      {R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "",
           "tool_calls": [{"id": "1", "function": {"name": "f"}}]},
           {"role": "user", "content": "b"}]})",
       F::kMessages,
       E::kToolCalls,
       {"has 1 tool call but 0 results before messages[2]"}},
      {R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "",
           "tool_calls": [{"id": "1", "function": {"name": "f"}},
                          {"id": "2", "function": {"name": "f"}}]},
           {"role": "tool", "tool_call_id": "2", "content": "b"}]})",
       F::kMessages,
       E::kToolCalls,
       {"has 2 tool calls but 1 result at its end"}},
      {R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "",
           "tool_calls": [{"id": "1", "function": {"name": "f"}}]},
           {"role": "tool", "tool_call_id": "2", "content": "b"}]})",
       F::kMessages,
       E::kToolCalls,
       {"the call '2' (messages[2]), which is not open"}},
      {R"({"messages": [{"role": "user", "content": "a"},
           {"role": "assistant", "content": "a", "weight": -1}]})",
       F::kMessages,
       E::kMessages,
       {"messages[1].weight", "at least 0"}},
      {R"({"messages": [{"role": "user", "content": "a"}], "weight": "much"})",
       F::kMessages,
       E::kKeys,
       {"a string under 'weight'"}},
      {R"({"conversations": [{"from": "alien", "value": "x"}]})",
       F::kShareGpt,
       E::kRoles,
       {"'alien'", "turn 1", "human"}},
      {R"({"conversations": [{"from": "human", "value": "x"}, {"from": "function_call",
           "value": "{"}]})",
       F::kShareGpt,
       E::kKeys,
       {"no JSON in the function call of turn 2"}},
      {R"({"instruction": "x"})", F::kAlpaca, E::kKeys, {"no key 'output'"}},
      {R"({"prompt": 1, "completion": "x"})", F::kPrompt, E::kKeys, {"a number under 'prompt'"}},
      {R"({"prompt": "a", "chosen": "x"})", F::kPreference, E::kKeys, {"no key 'rejected'"}},
      {R"({"labels": []})", F::kTokens, E::kKeys, {"no key 'input_ids' or 'ids'"}},
      {R"({"ids": []})", F::kTokens, E::kEmpty, {"no ids"}},
      {R"({"ids": [320]})", F::kTokens, E::kTokens, {"the id 320", "has 320"}},
      {R"({"ids": [1.5]})", F::kTokens, E::kTokens, {"1.5", "whole numbers"}},
      {R"({"ids": [5, 6], "labels": [5]})", F::kTokens, E::kTokens, {"1 values in 'labels' for 2"}},
      {R"({"ids": [5, 6], "labels": [-100, 5]})", F::kTokens, E::kTokens, {"label 5 for id 6"}},
      {R"({"ids": [5, 6], "targets": [[1, 4]]})", F::kTokens, E::kTokens, {"[1, 4]"}},
      {R"({"ids": [5, 6], "loss_mask": [0, 0]})", F::kTokens, E::kNothingTrained, {}},
  };
  for (const auto& [line, format, fault, parts] : refusals) {
    try {
      parsed(line, format);
      ADD_FAILURE() << line;
    } catch (const SampleError& error) {
      EXPECT_EQ(error.fault(), fault) << line << ": " << error.what();
      expect_mentions(error.what(), parts);
    }
  }
}

TEST(SampleParser, OtherKeysMayHoldAnything) {
  EXPECT_EQ(marked(R"({"score": NaN, "x": 1e400, "prompt": "q", "y": "\ud83d", "completion": "a"})",
                   SampleFormat::kPrompt),
            kUser + "q" + kAnswer + "[a" + kEos + "]");
}

TEST(SampleParser, ATokenizerWithoutTheChatTokensIsRefused) {
  class Plain : public ByteTokenizer {
    std::string name() const override { return "plain"; }
    std::optional<int64_t> special_id(std::string_view) const override { return std::nullopt; }
  };
  const Plain tokenizer;
  expect_mentions(error_of([&] { SampleParser(SampleFormat::kPrompt, {}, tokenizer); }),
                  {"tokenizer plain", "<｜User｜>", "DeepSeek-V4's"});
  SampleParser(SampleFormat::kTokens, {}, tokenizer);
}

TEST(SampleFormat, IsGuessedFromTheKeys) {
  using F = SampleFormat;
  EXPECT_EQ(guess_format({"id", "messages"}, "text"), F::kMessages);
  EXPECT_EQ(guess_format({"conversations", "system"}, "text"), F::kShareGpt);
  EXPECT_EQ(guess_format({"prompt", "chosen", "rejected"}, "text"), F::kPreference);
  EXPECT_EQ(guess_format({"instruction", "input", "output"}, "text"), F::kAlpaca);
  EXPECT_EQ(guess_format({"prompt", "completion"}, "text"), F::kPrompt);
  EXPECT_EQ(guess_format({"input_ids", "labels"}, "text"), F::kTokens);
  EXPECT_EQ(guess_format({"text", "ids"}, "text"), F::kText);
  EXPECT_EQ(guess_format({"body", "url"}, "body"), F::kText);
  EXPECT_EQ(guess_format({"body", "url"}, "text"), F::kAuto);
}

}  // namespace
}  // namespace braid::testing
