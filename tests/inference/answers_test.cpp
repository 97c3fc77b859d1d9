#include "inference/answers.h"

#include <gtest/gtest.h>

#include "data/chat_render.h"
#include "inference/chat_session.h"
#include "tests/train/tiny_run.h"

namespace braid {
namespace {

using namespace testing;

class AnswersTest : public CorpusTest {
 protected:
  /// Conversations "question i" -> "word-i: an answer", each with `before` in front.
  std::unique_ptr<TokenStore> conversations(int count, const std::string& before = "") const {
    std::string lines;
    for (int i = 0; i < count; ++i) {
      lines += text("{\"messages\": [{\"role\": \"user\", \"content\": \"", before, "question ", i);
      lines += text("\"}, {\"role\": \"assistant\", \"content\": \"word-", i, ": an answer\"}]}\n");
    }
    write("chat.jsonl", lines);
    Corpus corpus;
    corpus.training = {{.paths = {folder_ / "chat.jsonl"}}};
    build_token_stores(corpus, tokenizer_, files());
    return std::make_unique<TokenStore>(training_store());
  }

  static Transformer model() {
    auto config = tiny_model();
    config.num_nextn_predict_layers = 0;
    config.initializer_range = 0.3;
    return {config, at::kDouble, 5};
  }
};

TEST(FirstWord, EndsBeforeWhiteSpaceAndPunctuation) {
  EXPECT_EQ(first_word(" \n methane: a gas"), "methane");
  EXPECT_EQ(first_word("don't. Ever"), "don't");
  EXPECT_EQ(first_word("..."), "...");
  EXPECT_EQ(first_word(" \t"), "");
}

TEST_F(AnswersTest, AreAskedForEvenlyOverTheStoreWithTheWholePromptBefore) {
  const auto store = conversations(10);
  const auto chosen = spread_prompts(*store, tokenizer_, 4, 4096);
  EXPECT_EQ(chosen.conversations, 10);
  ASSERT_EQ(chosen.prompts.size(), 4u);
  const std::vector<int64_t> documents = {0, 2, 5, 7};
  for (std::size_t i = 0; i < 4; ++i) {
    const auto& prompt = chosen.prompts[i];
    EXPECT_EQ(prompt.document, documents[i]);
    EXPECT_EQ(prompt.prompt, text("<｜User｜>question ", documents[i], "<｜Assistant｜></think>"));
    EXPECT_EQ(prompt.reference, text("word-", documents[i], ": an answer"));
    EXPECT_EQ(
        prompt.ids,
        RenderedChat({{.content = text("question ", documents[i])}}, {.mode = ChatMode::kChat})
            .encode(tokenizer_)
            .ids);
  }
  EXPECT_EQ(spread_prompts(*store, tokenizer_, 100, 4096).prompts.size(), 10u);
  const auto none = spread_prompts(*store, tokenizer_, 4, 10);
  EXPECT_EQ(none.too_long, 10);
  EXPECT_TRUE(none.prompts.empty());
}

TEST_F(AnswersTest, AreThoseOfAChatWithTheSameWords) {
  const auto store = conversations(3);
  const auto asked = model();
  const auto prompts = spread_prompts(*store, tokenizer_, 3, 4096).prompts;
  const auto answers =
      give_answers(asked, tokenizer_, prompts, {.max_tokens = 12, .sampling = {.temperature = 0}});
  ASSERT_EQ(answers.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    ChatSession session(
        asked,
        tokenizer_,
        {.thinking = Thinking::kOff, .sampling = {.temperature = 0}, .max_tokens = 12});
    session.say(text("question ", i));
    const auto reply = session.reply({.begin = [](bool) {}, .token = [](std::string_view) {}});
    EXPECT_EQ(answers[i].tokens, reply.tokens);
    EXPECT_EQ(answers[i].ended, reply.end == ChatEnd::kEndToken);
  }
}

TEST_F(AnswersTest, AreComparedWithTheReferenceByTextAndFirstWord) {
  std::vector<AnswerPrompt> prompts(4);
  prompts[0].reference = prompts[1].reference = "methane: a gas";
  prompts[2].reference = "";
  prompts[3].reference = "so it is</think>yes, it is";
  prompts[3].mode = ChatMode::kThinking;
  std::vector<GivenAnswer> answers(4);
  answers[0].text = "methane: a gas";
  answers[1].text = "methane, and more";
  answers[2].text = "";
  answers[3].text = "another thought</think>yes, it is";
  compare_answers(prompts, answers);
  EXPECT_TRUE(answers[0].is_equal && answers[0].has_first_word);
  EXPECT_TRUE(!answers[1].is_equal && answers[1].has_first_word);
  EXPECT_TRUE(answers[2].is_equal && !answers[2].has_first_word);
  EXPECT_TRUE(answers[3].is_equal && answers[3].has_first_word);
  const auto figures = answer_figures(prompts, answers);
  EXPECT_EQ(figures.answers, 4);
  EXPECT_EQ(figures.equal_share(), 0.75);
  EXPECT_EQ(figures.with_word, 3);
  EXPECT_EQ(figures.same_word_share(), 1);
}

}  // namespace
}  // namespace braid
