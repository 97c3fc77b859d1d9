// What a token may see: nothing that comes later, whatever the layer.
#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "tests/model/support.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

using testing::expect_close;
using testing::logits_of;
using testing::random_ids;
using testing::randomized;

constexpr int64_t kLength = 27;  // a window and a half of every kind, and a rest

at::Tensor with_other_token(const at::Tensor& ids_BS, int64_t position, int64_t vocab_size) {
  auto changed = ids_BS.clone();
  changed.select(1, position).add_(1).remainder_(vocab_size);
  return changed;
}

// Rows of other tokens share matrix products with the ones compared, which may move their last
// bits.
constexpr testing::Tolerance kUnchanged{.absolute = 1e-12};

void expect_causal(const std::string& name, const ModelConfig& config) {
  const at::NoGradGuard no_grad;
  const auto model = randomized(config);
  const auto ids = random_ids(2, kLength, config.vocab_size);
  const auto before = logits_of(model, ids);
  for (int64_t t = 0; t < kLength; ++t) {
    const auto after = logits_of(model, with_other_token(ids, t, config.vocab_size));
    expect_close(text(name, ", token ", t, " changed"),
                 after.narrow(1, 0, t),
                 before.narrow(1, 0, t),
                 kUnchanged);
    const auto moved = (after - before).select(1, t).abs().amax(-1).min().item<double>();
    EXPECT_GT(moved, 1e-6) << name << ": token " << t << " does not see itself";
  }
}

TEST(Causality, HoldsForEveryLayerKind) {
  for (const auto& [name, layers] : testing::layer_mixes()) {
    expect_causal(name, testing::tiny_config(layers));
  }
}

TEST(Causality, HoldsWithDenseCsaAndForEveryResidualKind) {
  auto config = testing::tiny_config();
  config.index_topk.reset();
  expect_causal("index_topk all", config);
  for (const auto kind : {ResidualKind::kPlain, ResidualKind::kHc}) {
    config = testing::tiny_config();
    config.residual = kind;
    expect_causal(text("residual ", static_cast<int>(kind)), config);
  }
}

// The block reads the next token too, so that changing token t may reach t - 1, and nothing before.
TEST(Causality, OfTheMtpBlockReachesOneTokenAhead) {
  const at::NoGradGuard no_grad;
  auto config = testing::tiny_config();
  config.num_nextn_predict_layers = 1;
  const auto model = randomized(config);
  const auto run = [&](const at::Tensor& ids) {
    const auto tokens = whole_documents(ids);
    return model.mtp_forward(tokens, model.forward(tokens));
  };
  const auto ids = random_ids(1, kLength, config.vocab_size);
  const auto before = run(ids);
  for (int64_t t = 1; t < kLength; ++t) {
    const auto after = run(with_other_token(ids, t, config.vocab_size));
    expect_close(text("token ", t, " changed"),
                 after.narrow(1, 0, t - 1),
                 before.narrow(1, 0, t - 1),
                 kUnchanged);
    EXPECT_GT((after - before).select(1, t - 1).abs().max().item<double>(), 1e-6) << t;
  }
}

// How many tokens on a token has an effect: through each layer as far as its window is long, and to
// the end where one has none, or has entries.
int64_t reach_of(const ModelConfig& config) {
  int64_t reach = 0;
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const auto layer = config.layer(i);
    if (!layer.window || layer.compresses()) {
      return kLength;
    }
    reach += *layer.window - 1;
  }
  return reach;
}

// The window has 5 tokens and reaches 4 back per layer; entries and full layers reach to the start.
TEST(Causality, AWindowEndsWhereTheOthersReachTheStart) {
  const at::NoGradGuard no_grad;
  for (const auto& [name, layers] : testing::layer_mixes()) {
    auto config = testing::tiny_config(layers);
    config.index_topk.reset();
    const auto model = randomized(config);
    const auto ids = random_ids(1, kLength, config.vocab_size);
    const auto moved =
        (logits_of(model, with_other_token(ids, 0, config.vocab_size)) - logits_of(model, ids))
            .abs()
            .amax(-1)[0];
    const int64_t reach = std::min(reach_of(config), kLength - 1);
    EXPECT_GT(moved[reach].item<double>(), 1e-9) << name;
    if (const int64_t beyond = kLength - 1 - reach; beyond > 0) {
      EXPECT_LT(moved.narrow(0, reach + 1, beyond).max().item<double>(), 1e-12) << name;
    }
  }
}

}  // namespace
}  // namespace braid
