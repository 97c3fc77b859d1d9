#include "model/residual.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/model/support.h"
#include "tests/support/compare.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using testing::expect_close;
using testing::normal_tensor;

// A fresh model: what training starts from.
at::Tensor initial_logits(ResidualKind kind, int64_t streams, at::ScalarType type) {
  auto config = testing::tiny_config();
  config.residual = kind;
  config.hc_mult = streams;
  config.num_nextn_predict_layers = 1;
  const Transformer model(config, type, /*seed=*/3);
  const auto tokens = whole_documents(testing::random_ids(2, 26, config.vocab_size));
  const auto hidden = model.forward(tokens);
  return model.logits(at::cat({hidden.final_BSD, model.mtp_forward(tokens, hidden)}));
}

TEST(HyperConnections, StartAsThePlainResidualBitForBit) {
  for (const int64_t streams : {1, 2, 4, 8}) {
    for (const auto type : {at::kFloat, at::kDouble}) {
      testing::expect_bitwise_equal(text(streams, " streams in ", type),
                                    initial_logits(ResidualKind::kHc, streams, type),
                                    initial_logits(ResidualKind::kPlain, 1, type));
    }
  }
}

// The dynamic part has scale 0.01 and the streams mix by a percent.
TEST(Mhc, StartsNearThePlainResidual) {
  const auto plain = initial_logits(ResidualKind::kPlain, 1, at::kDouble);
  EXPECT_LT(testing::relative_error(initial_logits(ResidualKind::kMhc, 4, at::kDouble), plain),
            0.1);
}

// Every kind and number of streams, with random parameters: shapes, finite values and gradients.
TEST(Residual, OfAnyNumberOfStreamsRunsForwardAndBackward) {
  for (const auto kind : {ResidualKind::kHc, ResidualKind::kMhc}) {
    for (const int64_t streams : {1, 3, 9}) {
      auto config = testing::tiny_config();
      config.residual = kind;
      config.hc_mult = streams;
      const auto model = testing::randomized(config, at::kFloat);
      const auto logits = testing::logits_of(model, testing::random_ids(1, 9, config.vocab_size));
      EXPECT_TRUE(logits.isfinite().all().item<bool>());
      logits.square().sum().backward();
      for (const auto& p : model.parameters().all()) {
        const auto& name = p.name;
        const auto& value = p.value;
        EXPECT_TRUE(!value.grad().defined() || value.grad().isfinite().all().item<bool>()) << name;
      }
    }
  }
}

// The formulas of docs/equations.md (8) to (11), spelled out for one token.
TEST(Mhc, MixingFollowsItsFormula) {
  auto config = testing::tiny_config();
  const int64_t M = config.hc_mult, D = config.hidden_size;
  Parameters parameters(at::kDouble, 1, 0.3);
  const auto residual = make_residual(Scope(parameters, ""), "hc_attn", config, 0);
  for (const auto& each : parameters.all()) {
    each.value.detach().add_(normal_tensor(each.name, each.value.sizes()), 0.3);
  }
  const auto &fn = parameters.all()[0].value, &base = parameters.all()[1].value,
             &scale = parameters.all()[2].value;
  const auto X = normal_tensor("X", {1, 1, M, D});
  const auto f = X.flatten();
  const auto m = fn.mv(f) / (f.square().mean() + 1e-6).sqrt();
  const auto norm = at::ones({D}, at::kDouble);
  const auto entered = residual->enter(X, norm);
  const auto part = [&](int64_t group, int64_t first, int64_t count) {
    return m.narrow(0, first, count) * scale[group] + base.narrow(0, first, count);
  };
  expect_close("pre", entered.pre_TM[0][0], part(0, 0, M).sigmoid() + 1e-6, {.absolute = 1e-14});
  expect_close("post", entered.post_TM[0][0], 2 * part(1, M, M).sigmoid(), {.absolute = 1e-14});
  auto comb = part(2, 2 * M, M * M).view({M, M}).softmax(1) + 1e-6;
  comb = comb / (comb.sum(0, true) + 1e-6);
  for (int64_t i = 1; i < config.hc_sinkhorn_iters; ++i) {
    comb = comb / (comb.sum(1, true) + 1e-6);
    comb = comb / (comb.sum(0, true) + 1e-6);
  }
  expect_close("mix", entered.mix_TMM[0][0], comb, {.absolute = 1e-13});
  const auto y = normal_tensor("y", {1, 1, D});
  const auto want = entered.post_TM[0][0].unsqueeze(1) * y[0] + comb.t().matmul(X[0][0]);
  expect_close("streams behind", residual->leave(entered, y)[0][0], want, {.absolute = 1e-13});
  const auto x = entered.pre_TM[0][0].matmul(X[0][0]);
  expect_close("input",
               entered.h_TD[0][0],
               x / (x.square().mean() + config.rms_norm_eps).sqrt(),
               {.absolute = 1e-13});
}

// docs/equations.md (15): pre 3 on stream (index mod M), -3 elsewhere; matrix 6 I - 3.
TEST(Mhc, InitialBaseOfASublayerHasAHomeStream) {
  auto config = testing::tiny_config();
  config.hc_mult = 2;
  for (const auto init : {MhcInit::kIdentity, MhcInit::kUniform}) {
    config.mhc_init = init;
    Parameters parameters(at::kDouble, 1, 0.02);
    make_residual(Scope(parameters, ""), "hc_ffn", config, 3);
    EXPECT_EQ(parameters.all()[1].name, "hc_ffn_base");
    const auto want = init == MhcInit::kIdentity
                          ? at::tensor({-3., 3., 0., 0., 3., -3., -3., 3.}, at::kDouble)
                          : at::zeros({8}, at::kDouble);
    EXPECT_TRUE(parameters.all()[1].value.equal(want));
    EXPECT_EQ(parameters.all()[2].value[0].item<double>(), init == MhcInit::kIdentity ? 0.01 : 1);
  }
}

}  // namespace
}  // namespace braid
