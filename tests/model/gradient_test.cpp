// The gradient of a whole model, and its precision in narrower types.
#include <cmath>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "core/ignored_target.h"
#include "model/targets.h"
#include "tests/model/support.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

at::Tensor loss_of(const Transformer& model, const Tokens& tokens) {
  const auto S = tokens.ids_BS.size(1);
  auto targets = at::full_like(tokens.ids_BS, kIgnoredTarget);
  targets.narrow(1, 0, S - 1).copy_(tokens.ids_BS.narrow(1, 1, S - 1));
  const auto hidden = model.forward(tokens);
  const auto mtp = model.mtp_forward(tokens, hidden);
  return model.cross_entropy_sum(hidden.final_BSD, targets) / counted_targets(targets) +
         0.3 * model.cross_entropy_sum(mtp, mtp_targets(targets, tokens.documents_BS)) / S;
}

// A handful of elements of every parameter, against central differences.
void expect_gradient_is_numeric(const std::string& name, const ModelConfig& config) {
  const auto model = testing::randomized(config);
  const auto tokens = whole_documents(testing::random_ids(1, 14, config.vocab_size));
  loss_of(model, tokens).backward();
  const at::NoGradGuard no_grad;
  constexpr double kStep = 1e-6;
  for (const auto& p : model.parameters().all()) {
    const auto& value = p.value;
    if (!p.trained) {
      continue;
    }
    const auto gradient =
        value.grad().defined() ? value.grad().contiguous() : at::zeros_like(value);
    const int64_t stride = std::max<int64_t>(1, value.numel() / 3);
    for (int64_t i = 0; i < value.numel(); i += stride) {
      double& element = value.data_ptr<double>()[i];
      const double original = element;
      element = original + kStep;
      const double above = loss_of(model, tokens).item<double>();
      element = original - kStep;
      const double below = loss_of(model, tokens).item<double>();
      element = original;
      // Rounding of the loss, 1e-16 * 4 / 1e-6, and the third derivative.
      EXPECT_NEAR(gradient.data_ptr<double>()[i], (above - below) / (2 * kStep), 2e-8)
          << name << ": " << p.name << ", element " << i;
    }
  }
}

TEST(ModelGradient, IsTheNumericOneForEveryParameter) {
  for (const auto kind : {ResidualKind::kMhc, ResidualKind::kHc, ResidualKind::kPlain}) {
    using enum AttentionKind;
    auto config = testing::tiny_config({kWindow, kCsa, kHca, kFull});
    config.residual = kind;
    config.num_nextn_predict_layers = 1;
    config.swiglu_limit = 1;  // clamps a part of the values
    expect_gradient_is_numeric(text("residual ", static_cast<int>(kind)), config);
  }
}

// Without top-k and learned routing, whose choices may turn on a rounding.
ModelConfig config_without_choices() {
  auto config = testing::tiny_config();
  config.index_topk.reset();
  config.num_hash_layers = config.num_hidden_layers;
  return config;
}

TEST(Precision, Float32StaysWithinRoundingOfFloat64) {
  const auto config = config_without_choices();
  const auto ids = testing::random_ids(2, 26, config.vocab_size);
  const auto got = testing::logits_of(testing::randomized(config, at::kFloat), ids);
  EXPECT_EQ(got.scalar_type(), at::kFloat);
  testing::expect_close(
      "logits", got, testing::logits_of(testing::randomized(config), ids), {.relative = 2e-6});
}

// The yardstick is what rounding the weights alone to bfloat16 does to a float32 model; a bfloat16
// model rounds its activations as often as it uses a weight, or a little more often: twice the
// squared error for the two roundings of a product, and as much again for streams, norms and
// softmaxes.
TEST(Precision, Bfloat16StaysWithinRoundingOfFloat32WithWideMasters) {
  const auto config = config_without_choices();
  const auto model = testing::randomized(config, at::kBFloat16);
  const auto ids = testing::random_ids(2, 26, config.vocab_size);
  const auto hidden = model.forward(whole_documents(ids));
  EXPECT_EQ(hidden.streams_BSMD.scalar_type(), at::kBFloat16);
  const auto logits = model.logits(hidden.final_BSD);
  EXPECT_EQ(logits.scalar_type(), at::kFloat);
  const auto want = testing::logits_of(testing::randomized(config, at::kFloat), ids);
  const auto rounded = testing::randomized(config, at::kFloat);
  for (const auto& [name, value] : rounded.parameters().tensors()) {
    if (value.is_floating_point()) {
      value.copy_(value.to(at::kBFloat16));
    }
  }
  const double of_weights = testing::relative_error(testing::logits_of(rounded, ids), want);
  EXPECT_LT(of_weights, 0.05);
  testing::expect_close("logits", logits, want, {.relative = 2 * of_weights});
  logits.square().mean().backward();
  for (const auto& p : model.parameters().all()) {
    const auto& name = p.name;
    const auto& value = p.value;
    if (value.is_floating_point()) {
      EXPECT_EQ(value.scalar_type(), at::kFloat) << name;
    }
    if (value.grad().defined()) {
      EXPECT_EQ(value.grad().scalar_type(), at::kFloat) << name;
      EXPECT_TRUE(value.grad().isfinite().all().item<bool>()) << name;
    }
  }
}

TEST(ModelForward, AndBackwardRepeatBitForBit) {
  const auto config = testing::tiny_config();
  const auto model = testing::randomized(config, at::kFloat);
  const auto ids = testing::random_ids(3, 40, config.vocab_size);
  std::vector<at::Tensor> first;
  for (int run = 0; run < 2; ++run) {
    testing::clear_gradients(model);
    const auto logits = testing::logits_of(model, ids);
    logits.square().sum().backward();
    std::vector<at::Tensor> results = {logits};
    for (const auto& each : model.parameters().all()) {
      results.push_back(each.value.grad().defined() ? each.value.grad().clone() : at::zeros({1}));
    }
    for (std::size_t i = 0; i < first.size(); ++i) {
      testing::expect_bitwise_equal(text("result ", i), results[i], first[i]);
    }
    first = results;
  }
}

}  // namespace
}  // namespace braid
