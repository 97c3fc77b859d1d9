// All losses together: neither micro-batches, nor packing, nor recomputation changes them.
#include "train/language_objective.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "core/ignored_target.h"
#include "tests/model/support.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

using testing::expect_close;

// Rows of two documents, of which the first has `row + 5` tokens, and one token of padding.
Batch rows(int64_t B, int64_t S, int64_t vocab_size) {
  Batch batch{.ids_BS = testing::random_ids(B, S, vocab_size),
              .targets_BS = at::full({B, S}, kIgnoredTarget, at::kLong),
              .documents_BS = at::zeros({B, S}, at::kLong),
              .positions_BS = at::zeros({B, S}, at::kLong)};
  for (int64_t b = 0; b < B; ++b) {
    const int64_t first = 5 + b;
    const auto place = [&](int64_t begin, int64_t length, int64_t document) {
      batch.documents_BS[b].narrow(0, begin, length).fill_(document);
      batch.positions_BS[b].narrow(0, begin, length).copy_(at::arange(length, at::kLong));
      batch.targets_BS[b]
          .narrow(0, begin, length - 1)
          .copy_(batch.ids_BS[b].narrow(0, begin + 1, length - 1));
    };
    place(0, first, 0);
    place(first, S - 1 - first, 1);
    batch.documents_BS[b][S - 1] = -1;
  }
  return batch;
}

Batch part(const Batch& all, int64_t row, int64_t count) {
  const auto cut = [&](const at::Tensor& x) { return x.narrow(0, row, count); };
  return {.ids_BS = cut(all.ids_BS),
          .targets_BS = cut(all.targets_BS),
          .documents_BS = cut(all.documents_BS),
          .positions_BS = cut(all.positions_BS)};
}

struct Outcome {
  Losses losses;
  std::vector<NamedTensor> gradients;
};

constexpr LossWeights kWeights{.mtp = 0.3, .balance = 0.7, .indexer = 0.9};

Outcome outcome_of(const Transformer& model,
                   const std::vector<Batch>& batches,
                   const PassOptions& options) {
  testing::clear_gradients(model);
  const LanguageObjective objective(model);
  LossCounts counts;
  for (const auto& batch : batches) {
    add(counts, objective.counts(batch));
  }
  std::vector<Losses> micro_batches;
  for (const auto& batch : batches) {
    auto loss = objective.loss(batch, counts, {.options = options, .weights = kWeights});
    loss.backward();
    micro_batches.push_back(loss.read());
  }
  Outcome outcome{sum_over_ranks(micro_batches, *alone()), {}};
  for (const auto& parameter : model.parameters().all()) {
    const auto& gradient = parameter.value.grad();
    if (gradient.defined()) {
      outcome.gradients.push_back({parameter.name, gradient.clone()});
    }
  }
  return outcome;
}

void expect_same(const std::string& name, const Outcome& got, const Outcome& want, bool bitwise) {
  ASSERT_EQ(got.losses.terms.size(), 4u);
  for (const char* loss : {"loss", "mtp_loss", "balance_loss", "indexer_kl"}) {
    const double a = got.losses.value(loss), b = want.losses.value(loss);
    EXPECT_NEAR(a, b, bitwise ? 0 : 1e-12 * std::abs(b)) << name << ": " << loss;
    EXPECT_GT(std::abs(b), 1e-6) << loss << " is not exercised";
  }
  ASSERT_EQ(got.gradients.size(), want.gradients.size());
  for (std::size_t i = 0; i < want.gradients.size(); ++i) {
    const auto& [parameter, gradient] = want.gradients[i];
    ASSERT_EQ(got.gradients[i].name, parameter);
    const auto place = name + ", gradient of " + parameter;
    if (bitwise) {
      testing::expect_bitwise_equal(place, got.gradients[i].value, gradient);
    } else {
      expect_close(place, got.gradients[i].value, gradient, {.absolute = 1e-12, .relative = 1e-12});
    }
  }
  for (std::size_t i = 0; i < want.losses.load_E.size(); ++i) {
    EXPECT_TRUE(got.losses.load_E[i].equal(want.losses.load_E[i])) << name << ", layer " << i;
  }
}

class LanguageObjectiveTest : public ::testing::Test {
 protected:
  LanguageObjectiveTest()
      : config_(with_mtp()),
        model_(testing::randomized(config_)),
        all_(rows(8, 26, config_.vocab_size)) {}
  static ModelConfig with_mtp() {
    auto config = testing::tiny_config();
    config.num_nextn_predict_layers = 1;
    return config;
  }
  ModelConfig config_;
  Transformer model_;
  Batch all_;
};

// A document of weight 2 counts like two of weight 1, in every loss over targets.
TEST_F(LanguageObjectiveTest, AWeightOfTwoCountsLikeADocumentTwice) {
  const auto twice = [&](const at::Tensor& x) { return at::cat({x, x.narrow(0, 0, 1)}); };
  const Batch one = part(all_, 0, 2);
  const Batch repeated{.ids_BS = twice(one.ids_BS),
                       .targets_BS = twice(one.targets_BS),
                       .documents_BS = twice(one.documents_BS),
                       .positions_BS = twice(one.positions_BS)};
  Batch weighted = one;
  weighted.weights_BS = (one.targets_BS != kIgnoredTarget).to(at::kFloat);
  weighted.weights_BS[0] *= 2;
  const auto got = outcome_of(model_, {weighted}, {}), want = outcome_of(model_, {repeated}, {});
  for (const char* loss : {"loss", "mtp_loss"}) {
    EXPECT_NEAR(got.losses.value(loss), want.losses.value(loss), 1e-12) << loss;
  }
  const auto plain = outcome_of(model_, {one}, {});
  EXPECT_GT(std::abs(got.losses.loss() - plain.losses.loss()), 1e-4);
  EXPECT_EQ(got.losses.tokens, plain.losses.tokens);

  Batch ones = one;
  ones.weights_BS = (one.targets_BS != kIgnoredTarget).to(at::kFloat);
  expect_same("weights of 1", outcome_of(model_, {ones}, {}), plain, /*bitwise=*/true);
}

TEST_F(LanguageObjectiveTest, DoesNotDependOnTheMicroBatches) {
  for (const bool dense : {false, true}) {
    const PassOptions options{.dense_attention = dense};
    const auto want = outcome_of(model_, {all_}, options);
    for (const int64_t size : {1, 4}) {
      std::vector<Batch> batches;
      for (int64_t row = 0; row < 8; row += size) {
        batches.push_back(part(all_, row, size));
      }
      expect_same(text("rows ", size), outcome_of(model_, batches, options), want, false);
    }
  }
}

TEST_F(LanguageObjectiveTest, PackedEqualsSeparateDocuments) {
  std::vector<Batch> documents;
  for (int64_t row = 0; row < 8; ++row) {
    const auto one = part(all_, row, 1);
    for (const auto& [begin, length] : {std::pair{int64_t{0}, 5 + row}, {5 + row, 20 - row}}) {
      const auto cut = [&, first = begin, count = length](const at::Tensor& x) {
        return x.narrow(1, first, count);
      };
      const auto tokens = whole_documents(cut(one.ids_BS));
      documents.push_back({.ids_BS = tokens.ids_BS,
                           .targets_BS = cut(one.targets_BS),
                           .documents_BS = tokens.documents_BS,
                           .positions_BS = tokens.positions_BS});
    }
  }
  expect_same("separate", outcome_of(model_, documents, {}), outcome_of(model_, {all_}, {}), false);
}

TEST_F(LanguageObjectiveTest, RecomputationChangesNoBit) {
  const auto want = outcome_of(model_, {all_}, {});
  for (const int64_t sublayers : {1, 2, 3, 8}) {
    expect_same(text("every ", sublayers),
                outcome_of(model_, {all_}, {.recompute_sublayers = sublayers}),
                want,
                true);
  }
}

// The cross-entropy reaches everything but the indexers, the KL the indexers alone.
TEST_F(LanguageObjectiveTest, GradientsAreTheNumericOnesOfTheirOwnLosses) {
  const auto batch = part(all_, 0, 1);
  const LanguageObjective objective(model_);
  const auto total = [&](bool indexer) {
    const auto losses =
        objective.loss(batch, objective.counts(batch), {.options = {}, .weights = kWeights}).read();
    double sum = 0;
    for (const auto& term : losses.terms) {
      sum += (term.name == "indexer_kl") == indexer ? term.weight * term.value : 0;
    }
    return sum;
  };
  const auto outcome = outcome_of(model_, {batch}, {});
  constexpr double kStep = 1e-6;
  const at::NoGradGuard no_grad;
  for (const auto& [name, gradient] : outcome.gradients) {
    const bool indexer = name.find(".indexer.") != std::string::npos;
    const auto value = testing::parameter(model_, name).detach().view({-1});
    const auto grads = gradient.contiguous().view({-1});
    const int64_t i = value.numel() / 2;
    const double original = value[i].item<double>();
    value[i] = original + kStep;
    const double above = total(indexer);
    value[i] = original - kStep;
    const double below = total(indexer);
    value[i] = original;
    EXPECT_NEAR(grads[i].item<double>(), (above - below) / (2 * kStep), 2e-8) << name;
  }
}

}  // namespace
}  // namespace braid
