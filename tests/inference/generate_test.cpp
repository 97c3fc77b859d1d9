#include "inference/generate.h"

#include <cmath>
#include <map>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/random.h"
#include "tests/train/tiny_run.h"

namespace braid {
namespace {

using namespace testing;

using Ids = std::vector<int64_t>;
constexpr int64_t kVocabulary = 6, kNoEnd = -1;
const Ids kPrompt = {0, 3, 1};

// A model with few ids and clear preferences.
Transformer few_ids() {
  auto config = tiny_model();
  config.vocab_size = kVocabulary;
  config.max_position_embeddings = 64;
  config.num_nextn_predict_layers = 0;
  config.initializer_range = 0.3;
  return {config, at::kDouble, 5};
}

struct Generated {
  Ids ids;
  GenerationEnd end;
};

/// By prompt and sample.  `stop` ends a continuation after that id.
std::map<std::pair<int64_t, int64_t>, Generated> all_generated(const Transformer& model,
                                                               const std::vector<Ids>& prompts,
                                                               const GenerateOptions& options,
                                                               int64_t end_id = kNoEnd,
                                                               int64_t stop = kNoEnd) {
  std::map<std::pair<int64_t, int64_t>, Generated> result;
  generate(model,
           prompts,
           end_id,
           options,
           {.token =
                [&](const Continuation& c, int64_t id) {
                  result[{c.prompt, c.sample}].ids.push_back(id);
                  return id != stop;
                },
            .end =
                [&](const Continuation& c, GenerationEnd end) {
                  result[{c.prompt, c.sample}].end = end;
                }});
  return result;
}

Ids generated(const Transformer& model, const GenerateOptions& options, int64_t end_id = kNoEnd) {
  return all_generated(model, {kPrompt}, options, end_id)[{0, 0}].ids;
}

at::Tensor next_logits(const Transformer& model, const Ids& ids) {
  const at::NoGradGuard no_grad;
  const auto hidden = model.forward(whole_documents(at::tensor(ids, at::kLong).unsqueeze(0)));
  return model.logits(hidden.final_BSD).select(1, -1).squeeze(0);
}

TEST(Generate, TemperatureZeroTakesTheMostProbableId) {
  const auto model = few_ids();
  const auto got = generated(model, {.max_tokens = 20, .sampling = {.temperature = 0}});
  auto ids = kPrompt;
  for (int i = 0; i < 20; ++i) {
    ids.push_back(next_logits(model, ids).argmax().item<int64_t>());
  }
  EXPECT_EQ(got, Ids(ids.begin() + 3, ids.end()));
}

TEST(Generate, TheSameSeedGivesTheSameIdsAndAnotherSeedOthers) {
  const auto model = few_ids();
  const auto first = generated(model, {.max_tokens = 30, .seed = 1});
  EXPECT_EQ(generated(model, {.max_tokens = 30, .seed = 1}), first);
  EXPECT_NE(generated(model, {.max_tokens = 30, .seed = 2}), first);
  // A longer generation begins with the shorter one.
  EXPECT_EQ(generated(model, {.max_tokens = 10, .seed = 1}),
            Ids(first.begin(), first.begin() + 10));
}

TEST(Generate, DrawsWithTheModelsProbabilitiesAtAnyTemperature) {
  const auto model = few_ids();
  constexpr int kDraws = 400;
  for (const double temperature : {1.0, 0.5}) {
    const auto probabilities = (next_logits(model, kPrompt) / temperature).softmax(-1);
    std::vector<int> counts(kVocabulary);
    for (const auto& [continuation, got] : all_generated(
             model,
             {kPrompt},
             {.max_tokens = 1, .sampling = {.temperature = temperature}, .num_samples = kDraws})) {
      ++counts[got.ids.at(0)];
    }
    for (int64_t id = 0; id < kVocabulary; ++id) {
      const double p = probabilities[id].item<double>();
      EXPECT_NEAR(counts[id], kDraws * p, 4 * std::sqrt(kDraws * p * (1 - p)) + 1)
          << "id " << id << " at temperature " << temperature;
    }
  }
}

TEST(Generate, TheFirstContinuationsDrawsAreThoseOfThePurposeGenerate) {
  const auto model = few_ids();
  Ids ids = kPrompt;
  const uint64_t key = random_key(9, "generate");
  for (uint64_t i = 0; i < 8; ++i) {
    const auto p = next_logits(model, ids).softmax(-1);
    ids.push_back(drawn_id(p, random_uniform(key, i)));
  }
  EXPECT_EQ(generated(model, {.max_tokens = 8, .seed = 9}), Ids(ids.begin() + 3, ids.end()));
}

TEST(Generate, AContinuationDependsOnItsNumbersOnlyAndNotOnWhatIsComputedBeside) {
  const auto model = few_ids();
  const std::vector<Ids> prompts = {kPrompt, {0}, {0, 2, 2}, {0, 5}, {0, 1, 4}};
  GenerateOptions options{.max_tokens = 25, .seed = 3, .num_samples = 3};
  const auto together = all_generated(model, prompts, options, /*end_id=*/2);
  ASSERT_EQ(together.size(), 15u);
  for (const int64_t batch_size : {1, 2, 4}) {
    options.batch_size = batch_size;
    for (const auto& [continuation, got] : all_generated(model, prompts, options, /*end_id=*/2)) {
      EXPECT_EQ(got.ids, together.at(continuation).ids);
      EXPECT_EQ(got.end, together.at(continuation).end);
    }
  }
  // Prompts after it, and more samples, change nothing either.
  const auto alone = generated(model, {.max_tokens = 25, .seed = 3}, /*end_id=*/2);
  EXPECT_EQ(alone, together.at({0, 0}).ids);
  EXPECT_NE(alone, together.at({0, 1}).ids);
}

TEST(Generate, EndsAtTheEndIdWithoutShowingItAtAStopAndAfterMaxTokens) {
  const auto model = few_ids();
  const auto ids = generated(model, {.max_tokens = 30, .seed = 1});
  const int64_t id = ids[5];
  const auto first = std::find(ids.begin(), ids.end(), id);
  const GenerateOptions options{.max_tokens = 30, .seed = 1};
  auto got = all_generated(model, {kPrompt}, options, /*end_id=*/id)[{0, 0}];
  EXPECT_EQ(got.ids, Ids(ids.begin(), first));
  EXPECT_EQ(got.end, GenerationEnd::kEndToken);
  got = all_generated(model, {kPrompt}, options, kNoEnd, /*stop=*/id)[{0, 0}];
  EXPECT_EQ(got.ids, Ids(ids.begin(), first + 1));
  EXPECT_EQ(got.end, GenerationEnd::kStopped);
  got = all_generated(model, {kPrompt}, options)[{0, 0}];
  EXPECT_EQ(got.ids.size(), 30u);
  EXPECT_EQ(got.end, GenerationEnd::kMaxTokens);
}

TEST(Generate, RefusesAnEmptyPromptAndOneThatIsTooLong) {
  const auto model = few_ids();
  const auto error = [&](const std::vector<Ids>& prompts, const GenerateOptions& options) {
    return error_of([&] { all_generated(model, prompts, options); });
  };
  expect_mentions(error({kPrompt, {}}, {.max_tokens = 1}), {"prompt 1", "no tokens"});
  expect_mentions(error({{0}, kPrompt}, {.max_tokens = 62}),
                  {"prompt 1", "3 prompt tokens", "62", "max_position_embeddings 64"});
  expect_mentions(error({kPrompt}, {.sampling = {.top_p = 2}}), {"top_p", "2"});
  expect_mentions(error({kPrompt}, {.num_samples = 0}), {"num_samples", "0"});
}

}  // namespace
}  // namespace braid
