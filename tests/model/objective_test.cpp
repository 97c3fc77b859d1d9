// All losses together: neither micro-batches, nor packing, nor recomputation changes them.
#include "model/objective.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "core/ignored_target.h"
#include "tests/model/support.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

using testing::expect_close;

struct Sample {
  Tokens tokens;
  at::Tensor targets_BS;
};

// Rows of two documents, of which the first has `row + 5` tokens, and one token of padding.
Sample rows(int64_t B, int64_t S, int64_t vocab_size) {
  Sample sample{{testing::random_ids(B, S, vocab_size),
                 at::zeros({B, S}, at::kLong),
                 at::zeros({B, S}, at::kLong)},
                at::full({B, S}, kIgnoredTarget, at::kLong)};
  for (int64_t b = 0; b < B; ++b) {
    const int64_t first = 5 + b;
    const auto place = [&](int64_t begin, int64_t length, int64_t document) {
      sample.tokens.documents_BS[b].narrow(0, begin, length).fill_(document);
      sample.tokens.positions_BS[b].narrow(0, begin, length).copy_(at::arange(length, at::kLong));
      sample.targets_BS[b]
          .narrow(0, begin, length - 1)
          .copy_(sample.tokens.ids_BS[b].narrow(0, begin + 1, length - 1));
    };
    place(0, first, 0);
    place(first, S - 1 - first, 1);
    sample.tokens.documents_BS[b][S - 1] = -1;
  }
  return sample;
}

Sample part(const Sample& all, int64_t row, int64_t count) {
  const auto cut = [&](const at::Tensor& x) { return x.narrow(0, row, count); };
  return {{cut(all.tokens.ids_BS), cut(all.tokens.documents_BS), cut(all.tokens.positions_BS)},
          cut(all.targets_BS)};
}

struct Outcome {
  Losses losses;
  std::vector<NamedTensor> gradients;
};

constexpr LossWeights kWeights{.mtp = 0.3, .balance = 0.7, .indexer = 0.9};

Outcome outcome_of(const Transformer& model,
                   const std::vector<Sample>& batches,
                   const PassOptions& options) {
  testing::clear_gradients(model);
  LossCounts counts;
  for (const auto& batch : batches) {
    counts.add(model.config(), batch.tokens, batch.targets_BS);
  }
  Outcome outcome;
  for (const auto& batch : batches) {
    const auto losses = losses_of(model, batch.tokens, batch.targets_BS, counts, kWeights, options);
    losses.total.backward();
    outcome.losses.add(losses);
  }
  for (const auto& parameter : model.parameters().all()) {
    const auto& gradient = parameter.value.grad();
    if (gradient.defined()) {
      outcome.gradients.push_back({parameter.name, gradient.clone()});
    }
  }
  return outcome;
}

void expect_same(const std::string& name, const Outcome& got, const Outcome& want, bool bitwise) {
  const auto near = [&](const char* loss, double a, double b) {
    EXPECT_NEAR(a, b, bitwise ? 0 : 1e-12 * std::abs(b)) << name << ": " << loss;
    EXPECT_GT(std::abs(b), 1e-6) << loss << " is not exercised";
  };
  near("cross-entropy", got.losses.cross_entropy, want.losses.cross_entropy);
  near("mtp", got.losses.mtp, want.losses.mtp);
  near("balance", got.losses.balance, want.losses.balance);
  near("indexer KL", got.losses.indexer_kl, want.losses.indexer_kl);
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

class Objective : public ::testing::Test {
 protected:
  Objective()
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
  Sample all_;
};

TEST_F(Objective, DoesNotDependOnTheMicroBatches) {
  for (const bool dense : {false, true}) {
    const PassOptions options{.dense_attention = dense};
    const auto want = outcome_of(model_, {all_}, options);
    for (const int64_t size : {1, 4}) {
      std::vector<Sample> batches;
      for (int64_t row = 0; row < 8; row += size) {
        batches.push_back(part(all_, row, size));
      }
      expect_same(text("rows ", size), outcome_of(model_, batches, options), want, false);
    }
  }
}

TEST_F(Objective, PackedEqualsSeparateDocuments) {
  std::vector<Sample> documents;
  for (int64_t row = 0; row < 8; ++row) {
    const auto one = part(all_, row, 1);
    for (const auto& [begin, length] : {std::pair{int64_t{0}, 5 + row}, {5 + row, 20 - row}}) {
      const auto cut = [&, first = begin, count = length](const at::Tensor& x) {
        return x.narrow(1, first, count);
      };
      documents.push_back({whole_documents(cut(one.tokens.ids_BS)), cut(one.targets_BS)});
    }
  }
  expect_same("separate", outcome_of(model_, documents, {}), outcome_of(model_, {all_}, {}), false);
}

TEST_F(Objective, RecomputationChangesNoBit) {
  const auto want = outcome_of(model_, {all_}, {});
  for (const int64_t sublayers : {1, 2, 3, 8}) {
    expect_same(text("every ", sublayers),
                outcome_of(model_, {all_}, {.recompute_sublayers = sublayers}),
                want,
                true);
  }
}

// The cross-entropy reaches everything but the indexers, the KL the indexers alone.
TEST_F(Objective, GradientsAreTheNumericOnesOfTheirOwnLosses) {
  const auto sample = part(all_, 0, 1);
  const auto total = [&](bool indexer) {
    LossCounts counts;
    counts.add(config_, sample.tokens, sample.targets_BS);
    const auto losses = losses_of(model_, sample.tokens, sample.targets_BS, counts, kWeights, {});
    return indexer ? kWeights.indexer * losses.indexer_kl
                   : losses.cross_entropy + kWeights.mtp * losses.mtp +
                         kWeights.balance * losses.balance;
  };
  const auto outcome = outcome_of(model_, {sample}, {});
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
