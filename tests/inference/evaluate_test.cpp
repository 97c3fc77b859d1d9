#include "inference/evaluate.h"

#include <cmath>
#include <map>
#include <numeric>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/work.h"
#include "tests/train/tiny_run.h"

namespace braid {
namespace {

using namespace testing;
using EvaluateTest = CorpusTest;

Transformer with_random_head() {
  Transformer model(tiny_model(), at::kDouble, 7);
  const at::NoGradGuard no_grad;
  for (const auto& parameter : model.parameters().all()) {
    if (parameter.name == "head.weight") {
      at::Tensor(parameter.value).mul_(50);
    }
  }
  return model;
}

TEST_F(EvaluateTest, AUniformModelNeedsTheLogarithmOfTheVocabulary) {
  Transformer model(tiny_model(), at::kDouble, 7);
  const at::NoGradGuard no_grad;
  for (const auto& parameter : model.parameters().all()) {
    if (parameter.name == "head.weight") {
      at::Tensor(parameter.value).zero_();
    }
  }
  const auto store = store_of({"abc", "A longer document, \xc3\xa9 included.", "x"});
  const auto result = evaluate(model, *store, 16, 2);
  EXPECT_EQ(result.tokens, store->text_bytes());
  EXPECT_NEAR(result.loss, std::log(320), 1e-12);
  EXPECT_NEAR(result.bits_per_byte, std::log2(320), 1e-12);
}

TEST_F(EvaluateTest, SumsTheNatsOfEveryByteOfEveryDocument) {
  const auto model = with_random_head();
  const std::vector<std::string> documents = {
      "abc", "a second one", "the third and longest document"};
  double nats = 0;
  int64_t bytes = 0;
  const at::NoGradGuard no_grad;
  for (const auto& document : documents) {
    auto ids = tokenizer_.encode(document);
    const auto targets = at::tensor(ids, at::kLong);
    ids.insert(ids.begin(), tokenizer_.begin_id());
    ids.pop_back();
    const auto hidden = model.forward(whole_documents(at::tensor(ids, at::kLong).unsqueeze(0)));
    const auto log_probabilities = model.logits(hidden.final_BSD).squeeze(0).log_softmax(-1);
    nats -= log_probabilities.gather(1, targets.unsqueeze(1)).sum().item<double>();
    bytes += static_cast<int64_t>(document.size());
  }
  const auto result = evaluate(model, *store_of(documents), 64, 4);
  EXPECT_EQ(result.tokens, bytes);
  EXPECT_NEAR(result.loss, nats / static_cast<double>(bytes), 1e-12);
  EXPECT_NEAR(result.bits_per_byte, nats / std::log(2.0) / static_cast<double>(bytes), 1e-12);
}

TEST_F(EvaluateTest, CountsEveryByteOfADocumentThatIsLongerThanTheContext) {
  const auto store = store_of({std::string(50, 'a'), "b"});
  EXPECT_EQ(evaluate(with_random_head(), *store, 8, 3).tokens, 51);
}

TEST_F(EvaluateTest, SumsUpByPositionInTheContext) {
  const auto model = with_random_head();
  std::string longest(90, 'x');
  longest += "and then something else";
  const std::vector<std::string> documents = {
      longest, "a second one, of forty characters or so", "short"};
  const auto store = store_of(documents);
  constexpr int64_t kSeqLen = 80;  // the first document becomes two contexts
  const auto result = evaluate(model, *store, kSeqLen, 2);

  std::vector<double> nats(kSeqLen);
  std::vector<int64_t> tokens(kSeqLen);
  const at::NoGradGuard no_grad;
  for (const auto& document : documents) {
    const auto targets = tokenizer_.encode(document);
    auto inputs = targets;
    inputs.insert(inputs.begin(), tokenizer_.begin_id());
    const auto total = static_cast<int64_t>(targets.size());
    for (int64_t begin = 0; begin < total; begin += kSeqLen) {
      const int64_t length = std::min(kSeqLen, total - begin);
      const auto ids = at::tensor(inputs, at::kLong).narrow(0, begin, length).unsqueeze(0);
      const auto hidden = model.forward(whole_documents(ids));
      const auto log_probabilities = model.logits(hidden.final_BSD).squeeze(0).log_softmax(-1);
      for (int64_t i = 0; i < length; ++i) {
        nats[i] -= log_probabilities[i][targets[begin + i]].item<double>();
        ++tokens[i];
      }
    }
  }
  const std::vector<std::pair<int64_t, int64_t>> bounds = {{0, 16}, {16, 64}, {64, 80}};
  ASSERT_EQ(result.positions.size(), bounds.size());
  for (std::size_t i = 0; i < bounds.size(); ++i) {
    const auto& bucket = result.positions[i];
    EXPECT_EQ(bucket.begin, bounds[i].first);
    EXPECT_EQ(bucket.end, bounds[i].second);
    const auto sum = [&](const auto& values) {
      return std::accumulate(values.begin() + bucket.begin,
                             values.begin() + bucket.end,
                             typename std::decay_t<decltype(values)>::value_type{});
    };
    EXPECT_EQ(bucket.tokens, sum(tokens));
    EXPECT_NEAR(bucket.loss, sum(nats) / static_cast<double>(sum(tokens)), 1e-12) << i;
  }
}

TEST_F(EvaluateTest, CountsTheTargetsOfADocumentAndTheirBytesAlone) {
  const auto model = with_random_head();
  auto document = text_document("a question? The answer.", tokenizer_);
  document.targets = {{12, 15}, {16, 23}};
  document.ids[14] = 261;  // a special token: a target that stands for no text
  TokenStoreWriter writer(training_store(), tokenizer_, std::string(32, '0'));
  writer.add(document);
  writer.commit();
  const TokenStore store(training_store());
  const auto result = evaluate(model, store, 64, 4);

  const at::NoGradGuard no_grad;
  const auto targets = at::tensor(document.ids, at::kLong);
  auto inputs = document.ids;
  inputs.insert(inputs.begin(), tokenizer_.begin_id());
  inputs.pop_back();
  const auto hidden = model.forward(whole_documents(at::tensor(inputs, at::kLong).unsqueeze(0)));
  const auto nats =
      -model.logits(hidden.final_BSD).squeeze(0).log_softmax(-1).gather(1, targets.unsqueeze(1));
  const double sum = (nats.narrow(0, 12, 3).sum() + nats.narrow(0, 16, 7).sum()).item<double>();
  EXPECT_EQ(result.tokens, 10);
  EXPECT_NEAR(result.loss, sum / 10, 1e-12);
  EXPECT_NEAR(result.bits_per_byte, sum / std::log(2.0) / 9, 1e-12);
}

// Two documents, of which one is cut: its contexts begin within it.
TEST_F(EvaluateTest, SumsUpByRoleWhereverAConversationIsCut) {
  const auto model = with_random_head();
  write(
      "chat.jsonl",
      R"({"messages": [{"role": "system", "content": "Be."}, {"role": "user", "content": "Who?"},)"
      R"( {"role": "assistant", "reasoning_content": "hm", "content": "You.", "weight": 0.5}]})"
      "\n"
      R"({"messages": [{"role": "user", "content": "And what is it?"},)"
      R"( {"role": "assistant", "content": "It is nothing."}]})"
      "\n");
  Corpus corpus;
  corpus.training = {{.paths = {folder_ / "chat.jsonl"}}};
  corpus.training.front().samples.roles_to_train = {
      ChatRole::kSystem, ChatRole::kUser, ChatRole::kAssistant};
  build_token_stores(corpus, tokenizer_, files());
  const TokenStore store(training_store());
  const auto result = evaluate(model, store, 20, 2, nullptr, &tokenizer_);
  std::map<std::string, RoleLoss> roles;
  for (const auto& role : result.roles) {
    roles[role.role + ":" + role.part] = role;
  }
  const std::map<std::string, int64_t> tokens = {{"system:", 3},
                                                 {"user:", 4 + 15},
                                                 {"assistant:", 3 + 4 + 1 + 14 + 1},
                                                 {"assistant:reasoning", 3},
                                                 {"assistant:text", 4 + 14},
                                                 {"assistant:end_token", 2}};
  ASSERT_EQ(roles.size(), tokens.size());
  for (const auto& [name, count] : tokens) {
    EXPECT_EQ(roles.at(name).tokens, count) << name;
  }
  double nats = 0, weight = 0;
  for (const auto* name : {"system:", "user:", "assistant:"}) {
    nats += roles.at(name).loss * roles.at(name).weight;
    weight += roles.at(name).weight;
  }
  EXPECT_NEAR(nats / weight, result.loss, 1e-12);
  EXPECT_EQ(roles.at("assistant:reasoning").weight, 1.5);
  EXPECT_EQ(evaluate(model, store, 20, 2).loss, result.loss);
  EXPECT_TRUE(evaluate(model, *store_of({"a text"}), 20, 2, nullptr, &tokenizer_).roles.empty());
}

TEST_F(EvaluateTest, TellsHowFarItIsAndABatchOfAnySizeGivesTheSame) {
  const auto model = with_random_head();
  const auto store = store_of({std::string(50, 'a'), "b", std::string(30, 'c')});
  std::vector<int64_t> done;
  listen_to_work({.begin = [](const std::string&, WorkUnit) {},
                  .update =
                      [&](int64_t tokens, int64_t total) {
                        EXPECT_EQ(total, 81);
                        done.push_back(tokens);
                      },
                  .end = [] {}});
  const auto one_by_one = evaluate(model, *store, 16, 1);
  listen_to_work({});
  EXPECT_GT(done.size(), 3u);
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
  EXPECT_EQ(done.back(), 81);
  EXPECT_NEAR(evaluate(model, *store, 16, 8).loss, one_by_one.loss, 1e-12);
}

}  // namespace
}  // namespace braid
