#include "model/router.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/model/support.h"
#include "tests/support/compare.h"
#include "tests/support/gradcheck.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using testing::expect_close;
using testing::normal_tensor;
using testing::parameter;

// A router of two channels and four experts, two per token.
struct Gate {
  explicit Gate(RoutingKind kind, at::ScalarType type = at::kDouble) : parameters(type, 1, 0.5) {
    config.hidden_size = 2;
    config.n_routed_experts = 4;
    config.num_experts_per_tok = 2;
    config.vocab_size = 11;
    router.emplace(Scope(parameters, ""), config, kind);
  }
  at::Tensor weight() const { return parameters.all()[0].value; }

  Parameters parameters;
  ModelConfig config;
  std::optional<Router> router;
};

at::Tensor no_ids(int64_t count) {
  return at::zeros({count}, at::kLong);
}

// docs/equations.md (70).
TEST(Router, ScoresAreTheRootOfSoftplus) {
  const Gate gate(RoutingKind::kLearned);
  gate.weight().detach().copy_(
      at::tensor({-4.0, -1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0}, at::kDouble).view({4, 2}));
  const auto x = at::tensor({1.0, 0.0, -1.0, 0.0, 0.0, 1.0}, at::kDouble).view({3, 2});
  const auto scores = gate.router->forward(x, no_ids(3)).scores_TE;
  EXPECT_NEAR(scores[0][0].item<double>(), 0.1347217, 5e-8);  // z = -4
  EXPECT_NEAR(scores[1][0].item<double>(), 2.0045323, 5e-8);  // 4
  EXPECT_NEAR(scores[2][0].item<double>(), 0.5596979, 5e-8);  // -1
  EXPECT_NEAR(scores[2][1].item<double>(), 1.1459763, 5e-8);  // 1
  EXPECT_NEAR(scores[0][3].item<double>(), 0.8325546, 5e-8);  // 0
}

TEST(Router, WeightsAreScoresNormalizedToTheScalingFactorWithoutTheBias) {
  const Gate gate(RoutingKind::kLearned);
  const auto x = normal_tensor("x", {9, 2});
  const auto plain = gate.router->forward(x, no_ids(9));
  expect_close(
      "sums", plain.weights_TK.sum(-1), at::full({9}, 1.5, at::kDouble), {.absolute = 1e-14});
  gate.router->bias()[3] = 100;  // chosen by everyone now
  const auto biased = gate.router->forward(x, no_ids(9));
  EXPECT_TRUE((biased.experts_TK.select(1, 0) == 3).all().item<bool>());
  const auto chosen = biased.scores_TE.gather(1, biased.experts_TK);
  expect_close(
      "weights", biased.weights_TK, 1.5 * chosen / chosen.sum(-1, true), {.absolute = 1e-14});
  testing::expect_bitwise_equal("scores", biased.scores_TE, plain.scores_TE);
}

TEST(Router, OfEqualScoresTakesTheLowerExperts) {
  const Gate gate(RoutingKind::kLearned);
  gate.weight().detach().zero_();
  const auto routing = gate.router->forward(normal_tensor("x", {3, 2}), no_ids(3));
  EXPECT_TRUE(routing.experts_TK.equal(at::tensor({0, 1, 0, 1, 0, 1}, at::kLong).view({3, 2})));
}

// softplus underflows at z = -104 in float32; its root has no slope there.
TEST(Router, WhereSoftplusUnderflowsGivesZeroAndNoNan) {
  for (const auto kind : {RoutingKind::kLearned, RoutingKind::kHash}) {
    const Gate gate(kind, at::kFloat);
    gate.weight().detach().fill_(1);
    auto x = at::tensor({-100.0, -100.0, 1.0, -2.0}, at::kFloat).view({2, 2}).requires_grad_(true);
    const auto routing = gate.router->forward(x, no_ids(2));
    EXPECT_EQ(routing.scores_TE[0].abs().max().item<float>(), 0);
    EXPECT_EQ(routing.weights_TK[0].abs().max().item<float>(), 0);
    EXPECT_GT(routing.weights_TK[1].min().item<float>(), 0);
    (routing.weights_TK.select(1, 0).sum() + routing.scores_TE.sum()).backward();
    EXPECT_TRUE(x.grad().isfinite().all().item<bool>());
    EXPECT_TRUE(gate.weight().grad().isfinite().all().item<bool>());
    EXPECT_EQ(x.grad()[0].abs().max().item<float>(), 0);
  }
}

TEST(Router, ByHashTakesTheTokensRowOfTheTable) {
  const Gate gate(RoutingKind::kHash);
  const auto ids = at::tensor({0, 1, 5, 1}, at::kLong);
  const auto routing = gate.router->forward(normal_tensor("x", {4, 2}), ids);
  // Expert i of token t is (2 t + i) mod 4.
  EXPECT_TRUE(
      routing.experts_TK.equal(at::tensor({0, 1, 2, 3, 2, 3, 2, 3}, at::kLong).view({4, 2})));
  EXPECT_FALSE(gate.router->bias().defined());
}

TEST(HashLayer, HasATableInsteadOfABias) {
  const auto model = testing::randomized(testing::tiny_config());
  std::set<std::string> names;
  for (const auto& p : model.parameters().all()) {
    const auto& name = p.name;
    const bool trained = p.trained;
    names.insert(name);
    EXPECT_EQ(trained, !name.ends_with("gate.bias") && !name.ends_with("gate.tid2eid")) << name;
  }
  EXPECT_TRUE(names.contains("layers.0.ffn.gate.tid2eid"));
  EXPECT_FALSE(names.contains("layers.0.ffn.gate.bias"));
  EXPECT_TRUE(names.contains("layers.1.ffn.gate.bias"));
  EXPECT_FALSE(names.contains("layers.1.ffn.gate.tid2eid"));
  EXPECT_EQ(parameter(model, "layers.0.ffn.gate.tid2eid").scalar_type(), at::kLong);
}

// A device looks an expert up without a look at its number.
TEST(HashLayer, RefusesATableThatNamesNoExpert) {
  const auto config = testing::tiny_config();
  auto model = testing::randomized(config);
  const std::string name = "layers.0.ffn.gate.tid2eid";
  for (const int64_t wrong : {int64_t{-1}, config.n_routed_experts}) {
    std::vector<NamedTensor> values;
    for (const auto& [tensor, value] : model.parameters().tensors()) {
      values.push_back({tensor, value.clone()});
      if (tensor == name) {
        values.back().value[3][1] = wrong;
      }
    }
    const auto error_of = [](const auto& action) -> std::string {
      try {
        action();
      } catch (const Error& error) {
        return error.what();
      }
      return "";
    };
    const auto message = text(": entry [3, 1] of ",
                              name,
                              " is ",
                              wrong,
                              "; expected 0 to ",
                              config.n_routed_experts - 1,
                              ", the number of an expert");
    EXPECT_EQ(error_of([&] { model.parameters().load(values, "FILE"); }), "FILE" + message);
    const WeightSource source{
        .read =
            [&](const std::string& tensor) {
              return Weight(std::ranges::find(values, tensor, &NamedTensor::name)->value);
            },
        .is_frozen = [](const std::string&) { return false; },
        .described = "FOLDER"};
    EXPECT_EQ(error_of([&] { Transformer(config, at::kDouble, /*seed=*/7, &source); }),
              "FOLDER" + message);
  }
}

TEST(HashLayer, StillLearnsItsMixingWeights) {
  const auto config = testing::tiny_config();
  const auto model = testing::randomized(config);
  testing::logits_of(model, testing::random_ids(1, 9, config.vocab_size)).square().sum().backward();
  EXPECT_GT(parameter(model, "layers.0.ffn.gate.weight").grad().abs().max().item<double>(), 1e-6);
}

TEST(HashLayer, DoesNotDependOnTheOrderOfItsExperts) {
  const auto config = testing::tiny_config();
  const auto model = testing::randomized(config);
  const auto ids = testing::random_ids(2, 9, config.vocab_size);
  const auto before = testing::logits_of(model, ids).detach();
  const auto order = at::tensor({2, 0, 3, 1}, at::kLong);  // new expert e is the old order[e]
  const auto permute = [&](const char* name) {
    auto value = parameter(model, text("layers.0.ffn.", name)).detach();
    value.copy_(value.index_select(0, order));
  };
  permute("gate.weight");
  EXPECT_GT(testing::relative_error(testing::logits_of(model, ids), before), 1e-4);
  permute("experts.*.w1.weight");
  permute("experts.*.w2.weight");
  permute("experts.*.w3.weight");
  auto table = parameter(model, "layers.0.ffn.gate.tid2eid");
  const auto new_of_old = order.argsort(int64_t{-1}, false);
  table.copy_(new_of_old.index_select(0, table.flatten()).view_as(table));
  expect_close("logits", testing::logits_of(model, ids), before, {.absolute = 1e-12});
}

TEST(ExpertLoad, CountsTheChoicesOfCountedTokens) {
  const auto experts = at::tensor({0, 1, 1, 3, 3, 1}, at::kLong).view({3, 2});
  const Routing routing{experts, {}, at::zeros({3, 5}, at::kDouble)};
  const auto documents = at::tensor({0, -1, 1}, at::kLong).unsqueeze(0);
  EXPECT_TRUE(expert_load(routing, numbered_documents(documents))
                  .equal(at::tensor({1.0, 2.0, 0.0, 1.0, 0.0}, at::kDouble)));
}

// Two documents and padding, by hand: f_e = E / (K n) counts, P_e mean share of the scores.
TEST(BalanceLoss, IsTheSumOverDocumentsWeightedByTheirTokens) {
  const auto experts = at::tensor({0, 1, 1, 2, 0, 2, 0, 1}, at::kLong).view({4, 2});
  auto scores =
      at::tensor({1.0, 2.0, 1.0, 3.0, 1.0, 0.0, 2.0, 2.0, 4.0, 9.0, 9.0, 9.0}, at::kDouble)
          .view({4, 3})
          .requires_grad_(true);
  const auto documents = at::tensor({0, 0, 1, -1}, at::kLong).unsqueeze(0);
  const auto loss = balance_loss_sum({experts, {}, scores}, numbered_documents(documents));
  // Document 0: counts 1, 2, 1 of n = 2; shares (.25 + .75) / 2, (.5 + .25) / 2, .25 / 2.
  const double first = 2 * (3.0 / 4) * (1 * 0.5 + 2 * 0.375 + 1 * 0.125);
  const double second = 1 * (3.0 / 2) * (0.25 + 0.5);  // experts 0 and 2
  EXPECT_NEAR(loss.item<double>(), first + second, 1e-14);
  testing::expect_gradients_match(
      [&](const std::vector<at::Tensor>& in) {
        return std::vector{balance_loss_sum({experts, {}, in[0]}, numbered_documents(documents))};
      },
      {scores.detach()});
}

TEST(BalanceLoss, IsOnePerTokenForAnEvenLoad) {
  const auto experts = at::arange(6, at::kLong).view({3, 2}).remainder(3);
  const auto loss = balance_loss_sum({experts, {}, at::ones({3, 3}, at::kDouble)},
                                     numbered_documents(at::zeros({1, 3}, at::kLong)));
  EXPECT_NEAR(loss.item<double>(), 3, 1e-14);
}

TEST(BalanceLoss, IsConstantWhereEveryTokenVisitsEveryExpert) {
  const auto documents = numbered_documents(at::zeros({1, 4}, at::kLong));
  const auto scores = normal_tensor("scores", {4, 3}).abs().requires_grad_(true);
  const auto all = at::arange(3, at::kLong).expand({4, 3});
  const auto loss = balance_loss_sum({all, {}, scores}, documents);
  EXPECT_NEAR(loss.item<double>(), 4, 1e-14);
  EXPECT_FALSE(loss.requires_grad());
  EXPECT_TRUE(balance_loss_sum({all.narrow(1, 0, 2), {}, scores}, documents).requires_grad());
}

TEST(BalanceBias, StepsTowardsTheMeanLoad) {
  const auto bias = at::tensor({0.5, 0.0, 0.0}, at::kDouble);
  balance_bias(
      bias, at::tensor({7.0, 1.0, 4.0}, at::kDouble), 0.001);  // mean 4: an equal load stays
  expect_close("bias", bias, at::tensor({0.499, 0.001, 0.0}, at::kDouble), {.absolute = 1e-15});
}

}  // namespace
}  // namespace braid
