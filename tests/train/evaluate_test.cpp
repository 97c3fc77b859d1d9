#include "train/evaluate.h"

#include <cmath>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

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

}  // namespace
}  // namespace braid
