// The loss of preferences against its definition on whole logits, through autograd.
#include "train/preference_objective.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/ignored_target.h"
#include "tests/model/support.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

constexpr int64_t kS = 32;

// Two rows: two pairs, and one. The first tokens of each answer are its prompt.
Batch pairs(int64_t vocab_size) {
  Batch batch{.ids_BS = testing::random_ids(2, kS, vocab_size),
              .targets_BS = at::full({2, kS}, kIgnoredTarget, at::kLong),
              .documents_BS = at::full({2, kS}, -1, at::kLong),
              .positions_BS = at::zeros({2, kS}, at::kLong),
              .weights_BS = {},
              .num_targets = 0,
              .contexts = {{{4}, {5}, {0}, {1}}, {{2}, {3}}}};
  const std::vector<std::vector<int64_t>> lengths = {{7, 9, 6, 8}, {11, 13}};
  for (int64_t b = 0; b < 2; ++b) {
    int64_t begin = 0, context = 0;
    for (const int64_t length : lengths[static_cast<std::size_t>(b)]) {
      batch.documents_BS[b].narrow(0, begin, length).fill_(context++);
      batch.positions_BS[b].narrow(0, begin, length).copy_(at::arange(length, at::kLong));
      batch.targets_BS[b]
          .narrow(0, begin + 2, length - 3)
          .copy_(batch.ids_BS[b].narrow(0, begin + 3, length - 3));
      begin += length;
    }
  }
  return batch;
}

std::vector<DocumentScore> reference() {
  std::vector<DocumentScore> scores;
  for (const double log_probability : {-21.0, -24.5, -45.0, -38.0, -20.0, -29.0}) {
    scores.push_back({log_probability, 0});
  }
  return scores;
}

Batch row(const Batch& all, int64_t b) {
  const auto cut = [&](const at::Tensor& x) { return x.narrow(0, b, 1); };
  return {.ids_BS = cut(all.ids_BS),
          .targets_BS = cut(all.targets_BS),
          .documents_BS = cut(all.documents_BS),
          .positions_BS = cut(all.positions_BS),
          .weights_BS = {},
          .num_targets = 0,
          .contexts = {all.contexts[static_cast<std::size_t>(b)]}};
}

struct Outcome {
  Losses losses;
  at::Tensor gradient;
};

class PreferenceObjectiveTest : public ::testing::TestWithParam<bool> {
 protected:
  PreferenceObjectiveTest()
      : model_(testing::randomized(config())), batch_(pairs(config().vocab_size)) {}

  static ModelConfig config() {
    auto config = testing::tiny_config();
    config.num_nextn_predict_layers = 1;
    return config;
  }
  PreferenceOptions options() const {
    return {.beta = GetParam() ? 3 : 0.4, .length_normalized = GetParam()};
  }
  at::Tensor parameter() const { return testing::parameter(model_, "layers.1.attn.wkv.weight"); }

  Outcome outcome_of(const std::vector<Batch>& batches) const {
    testing::clear_gradients(model_);
    const PreferenceObjective objective(model_, options(), reference());
    LossCounts counts;
    for (const auto& batch : batches) {
      add(counts, objective.counts(batch));
    }
    std::vector<Losses> losses;
    for (const auto& batch : batches) {
      auto loss = objective.loss(batch, counts, {});
      loss.backward();
      losses.push_back(loss.read());
    }
    return {sum_over_ranks(losses, *alone()), parameter().grad().clone()};
  }

  Transformer model_;
  Batch batch_;
};

TEST_P(PreferenceObjectiveTest, EqualsItsDefinitionOnWholeLogits) {
  const auto got = outcome_of({batch_});

  testing::clear_gradients(model_);
  const auto hidden = model_.forward({batch_.ids_BS, batch_.documents_BS, batch_.positions_BS});
  const auto is_target = batch_.targets_BS != kIgnoredTarget;
  const auto log_p_BS = model_.logits(hidden.final_BSD)
                            .log_softmax(-1)
                            .gather(2, batch_.targets_BS.clamp_min(0).unsqueeze(2))
                            .squeeze(2);
  at::Tensor sum = at::zeros({}, at::kDouble);
  double margins = 0, preferred = 0;
  for (int64_t b = 0; b < 2; ++b) {
    const auto& documents = batch_.contexts[static_cast<std::size_t>(b)];
    std::vector<at::Tensor> rewards;
    for (std::size_t c = 0; c < documents.size(); ++c) {
      const auto own = is_target[b].logical_and(batch_.documents_BS[b] == static_cast<int64_t>(c));
      auto gained = log_p_BS[b].masked_select(own).sum() -
                    reference()[static_cast<std::size_t>(documents[c].document)].log_probability;
      if (options().length_normalized) {
        gained = gained / own.sum();
      }
      rewards.push_back(options().beta * gained);
    }
    for (std::size_t c = 0; c < rewards.size(); c += 2) {
      const auto margin = rewards[c] - rewards[c + 1];
      sum = sum - margin.sigmoid().log();
      margins += margin.item<double>();
      preferred += margin.item<double>() > 0;
    }
  }
  const auto want = sum / 3;
  want.backward();
  EXPECT_NEAR(got.losses.loss(), want.item<double>(), 1e-12);
  testing::expect_close(
      "gradient", got.gradient, parameter().grad(), {.absolute = 1e-12, .relative = 1e-11});
  EXPECT_GT(got.gradient.abs().max().item<double>(), 1e-6);
  for (const auto& [name, numerator, denominator] : got.losses.ratios) {
    if (name == "reward_margin") {
      EXPECT_NEAR(numerator / denominator, margins / 3, 1e-12);
    } else if (name == "reward_accuracy") {
      EXPECT_EQ(numerator, preferred);
      EXPECT_EQ(denominator, 3);
    }
  }
}

TEST_P(PreferenceObjectiveTest, MicroBatchesDoNotChangeIt) {
  const auto one = outcome_of({batch_}), two = outcome_of({row(batch_, 0), row(batch_, 1)});
  EXPECT_NEAR(one.losses.loss(), two.losses.loss(), 1e-13);
  testing::expect_close(
      "gradient", two.gradient, one.gradient, {.absolute = 1e-13, .relative = 1e-11});
}

// The block's experts are reported as idle: their routing biases stay.
TEST_P(PreferenceObjectiveTest, AnMtpBlockDoesNotLearn) {
  const auto got = outcome_of({batch_});
  EXPECT_EQ(static_cast<int64_t>(got.losses.load_E.size()), config().num_hidden_layers + 1);
  EXPECT_EQ(got.losses.load_E.back().abs().sum().item<double>(), 0);
  EXPECT_FALSE(testing::parameter(model_, "mtp.0.e_proj.weight").grad().defined());
}

INSTANTIATE_TEST_SUITE_P(Forms, PreferenceObjectiveTest, ::testing::Bool());

}  // namespace
}  // namespace braid
