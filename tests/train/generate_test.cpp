#include "train/generate.h"

#include <cmath>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "tests/train/tiny_run.h"

namespace braid {
namespace {

using namespace testing;

constexpr int64_t kVocabulary = 6, kNoEnd = -1;
const std::vector<int64_t> kPrompt = {0, 3, 1};

// A model with few ids and clear preferences.
Transformer few_ids() {
  auto config = tiny_model();
  config.vocab_size = kVocabulary;
  config.max_position_embeddings = 64;
  config.num_nextn_predict_layers = 0;
  config.initializer_range = 0.3;
  return {config, at::kDouble, 5};
}

std::vector<int64_t> generated(const Transformer& model,
                               const GenerateOptions& options,
                               int64_t end_id = kNoEnd) {
  std::vector<int64_t> ids;
  generate(model, kPrompt, end_id, options, [&](int64_t id) { ids.push_back(id); });
  return ids;
}

at::Tensor next_logits(const Transformer& model, const std::vector<int64_t>& ids) {
  const at::NoGradGuard no_grad;
  const auto hidden = model.forward(whole_documents(at::tensor(ids, at::kLong).unsqueeze(0)));
  return model.logits(hidden.final_BSD).select(1, -1).squeeze(0);
}

TEST(Generate, TemperatureZeroTakesTheMostProbableId) {
  const auto model = few_ids();
  const auto got = generated(model, {.max_tokens = 20, .temperature = 0});
  auto ids = kPrompt;
  for (int i = 0; i < 20; ++i) {
    ids.push_back(next_logits(model, ids).argmax().item<int64_t>());
  }
  EXPECT_EQ(got, std::vector<int64_t>(ids.begin() + 3, ids.end()));
}

TEST(Generate, TheSameSeedGivesTheSameIdsAndAnotherSeedOthers) {
  const auto model = few_ids();
  const auto first = generated(model, {.max_tokens = 30, .seed = 1});
  EXPECT_EQ(generated(model, {.max_tokens = 30, .seed = 1}), first);
  EXPECT_NE(generated(model, {.max_tokens = 30, .seed = 2}), first);
  // A longer generation begins with the shorter one.
  EXPECT_EQ(generated(model, {.max_tokens = 10, .seed = 1}),
            std::vector<int64_t>(first.begin(), first.begin() + 10));
}

TEST(Generate, DrawsWithTheModelsProbabilitiesAtAnyTemperature) {
  const auto model = few_ids();
  constexpr int kDraws = 400;
  for (const double temperature : {1.0, 0.5}) {
    const auto probabilities = (next_logits(model, kPrompt) / temperature).softmax(-1);
    std::vector<int> counts(kVocabulary);
    for (uint64_t seed = 0; seed < kDraws; ++seed) {
      ++counts[generated(model, {.max_tokens = 1, .temperature = temperature, .seed = seed}).at(0)];
    }
    for (int64_t id = 0; id < kVocabulary; ++id) {
      const double p = probabilities[id].item<double>();
      EXPECT_NEAR(counts[id], kDraws * p, 4 * std::sqrt(kDraws * p * (1 - p)) + 1)
          << "id " << id << " at temperature " << temperature;
    }
  }
}

TEST(Generate, StopsAtTheEndIdWithoutShowingIt) {
  const auto model = few_ids();
  const auto ids = generated(model, {.max_tokens = 30, .seed = 1});
  const int64_t end = ids[5];
  const auto first_end = std::find(ids.begin(), ids.end(), end);
  EXPECT_EQ(generated(model, {.max_tokens = 30, .seed = 1}, end),
            std::vector<int64_t>(ids.begin(), first_end));
}

TEST(Generate, RefusesAnEmptyPromptAndOneThatIsTooLong) {
  const auto model = few_ids();
  const auto ignore = [](int64_t) {};
  expect_mentions(error_of([&] { generate(model, {}, kNoEnd, {}, ignore); }), {"prompt"});
  expect_mentions(error_of([&] { generate(model, kPrompt, kNoEnd, {.max_tokens = 62}, ignore); }),
                  {"3 prompt tokens", "62", "max_position_embeddings 64"});
}

}  // namespace
}  // namespace braid
