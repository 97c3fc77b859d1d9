#include "inference/chat_session.h"

#include <csignal>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/interruption.h"
#include "data/byte_tokenizer.h"
#include "data/chat_render.h"
#include "tests/support/compare.h"
#include "tests/train/tiny_run.h"

namespace braid {
namespace {

using namespace testing;

Transformer tiny_transformer(int64_t longest = 4096) {
  auto config = tiny_model();
  config.num_nextn_predict_layers = 0;
  config.vocab_size = ByteTokenizer().vocab_size();
  config.max_position_embeddings = longest;
  config.initializer_range = 0.3;
  return {config, at::kDouble, 5};
}

const ChatVisitor kNobody = {.begin = [](bool) {}, .token = [](std::string_view) {}};

class ChatSessionTest : public ::testing::Test {
 protected:
  ChatSession session(ChatSettings settings = {}) {
    settings.max_tokens = settings.max_tokens == 1024 ? 12 : settings.max_tokens;
    return {model_, tokenizer_, settings};
  }

  /// The ids before the next answer, as training renders the whole conversation.
  std::vector<int64_t> rendered(const ChatSession& session) const {
    return RenderedChat(session.messages(), session.options()).encode(tokenizer_).ids;
  }

  const Transformer model_ = tiny_transformer();
  const ByteTokenizer tokenizer_;
};

// What was read ends with the answer's tokens but the last one drawn.
void expect_read(const ChatSession& session, const std::vector<int64_t>& prompt) {
  ASSERT_GE(session.read().size(), prompt.size());
  const std::vector<int64_t> begin(
      session.read().begin(), session.read().begin() + static_cast<std::ptrdiff_t>(prompt.size()));
  EXPECT_EQ(begin, prompt);
}

TEST_F(ChatSessionTest, ReadsWhatTrainingWouldRenderInEveryTurn) {
  for (const auto thinking : {Thinking::kOff, Thinking::kOn}) {
    auto chat = session({.thinking = thinking, .seed = 3});
    chat.set_system("Be brief.");
    for (const char* said : {"one", "<think> and ｜DSML｜ are text", "three"}) {
      chat.say(said);
      const auto prompt = rendered(chat);
      chat.reply(kNobody);
      expect_read(chat, prompt);
    }
  }
}

TEST_F(ChatSessionTest, FeedsOnlyWhatIsNewUnlessReasoningIsLeftOut) {
  auto plain = session({.thinking = Thinking::kOff});
  auto thinking = session({.thinking = Thinking::kOn});
  for (auto* chat : {&plain, &thinking}) {
    chat->say("one");
    EXPECT_EQ(chat->reply(kNobody).given_up, 0);
    chat->say("two");
  }
  EXPECT_EQ(plain.reply(kNobody).given_up, 0);
  // From the header's <think> on.
  EXPECT_EQ(thinking.reply(kNobody).given_up, 12);
}

TEST_F(ChatSessionTest, LogitsAreThoseOfOnePassAfterGoingBack) {
  IncrementalReader reader(model_);
  reader.logits_V({0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  reader.logits_V({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  for (const std::vector<int64_t>& ids : {std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 20, 21},
                                          {0, 1, 2, 3, 4, 5, 6, 7, 8, 20},
                                          {0, 1, 7},
                                          {5}}) {
    IncrementalReader fresh(model_);
    expect_close(
        text(ids.size(), " ids"), reader.logits_V(ids), fresh.logits_V(ids), {.absolute = 1e-12});
    EXPECT_EQ(reader.read(), ids);
  }
  EXPECT_THROW(reader.logits_V({}), Error);
}

TEST_F(ChatSessionTest, AnAnswerIsAFunctionOfTheSeed) {
  const auto answer = [&](uint64_t seed) {
    auto chat = session({.seed = seed});
    chat.say("hello");
    return chat.reply(kNobody).answer.content;
  };
  EXPECT_EQ(answer(1), answer(1));
  EXPECT_NE(answer(1), answer(2));
}

TEST_F(ChatSessionTest, AutoThinksOnceAnAnswerHasReasoning) {
  auto chat = session({.thinking = Thinking::kAuto});
  bool thinks = true;
  const ChatVisitor visitor = {.begin = [&](bool is) { thinks = is; },
                               .token = [](std::string_view) {}};
  chat.say("one");
  chat.reply(visitor);
  EXPECT_FALSE(thinks);
  chat.settings().thinking = Thinking::kOn;
  chat.say("two");
  chat.reply(visitor);
  chat.settings().thinking = Thinking::kAuto;
  chat.say("three");
  chat.reply(visitor);
  EXPECT_TRUE(thinks);
  chat.reset();
  chat.say("four");
  chat.reply(visitor);
  EXPECT_FALSE(thinks);
}

TEST_F(ChatSessionTest, AFullContextIsAnErrorThatTakesBackWhatWasSaid) {
  const auto short_model = tiny_transformer(/*longest=*/24);
  ChatSession chat(short_model, tokenizer_, {.max_tokens = 100});
  chat.say("one");
  const auto reply = chat.reply(kNobody);
  EXPECT_EQ(reply.end, ChatEnd::kContextFull);
  chat.say("more");
  expect_mentions(error_of([&] { chat.reply(kNobody); }),
                  {"tokens", "at most 24", "max_position_embeddings", "/reset"});
  EXPECT_EQ(chat.messages().size(), 2u);
  chat.reset();
  chat.say("one");
  EXPECT_GT(chat.reply(kNobody).tokens, 0);
}

TEST_F(ChatSessionTest, ASignalEndsTheAnswerAndKeepsIt) {
  auto chat = session();
  chat.say("one");
  const auto reply = chat.reply(
      {.begin = [](bool) {}, .token = [](std::string_view) { request_interruption(SIGINT); }});
  forget_interruption();
  EXPECT_EQ(reply.end, ChatEnd::kInterrupted);
  EXPECT_EQ(reply.tokens, 1);
  EXPECT_EQ(chat.messages().size(), 2u);
  chat.say("two");
  EXPECT_EQ(chat.reply(kNobody).tokens, 12);
}

TEST_F(ChatSessionTest, ToolsAreDeclaredAndResultsNeedACall) {
  auto chat = session();
  chat.set_tools(parse_ordered_json(R"([{"type": "function", "function": {"name": "add"}}])"));
  ASSERT_EQ(chat.messages().size(), 1u);
  EXPECT_EQ(chat.messages().front().tools, std::vector<std::string>{R"({"name": "add"})"});
  expect_mentions(error_of([&] { chat.give_result("3"); }), {"no call"});
}

}  // namespace
}  // namespace braid
