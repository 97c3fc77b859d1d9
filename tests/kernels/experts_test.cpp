#include "kernels/experts.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/experts_cpu.h"
#include "tests/kernels/check_op.h"
#include "tests/support/compare.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using testing::check_op;
using testing::normal_tensor;
using testing::wide;

constexpr double kLimit = 4;

struct ExpertsCase {
  const char* name;
  int64_t T, E, K, D, F;
  int64_t used;  // experts 0..used-1 get tokens
};

std::vector<ExpertsCase> cases() {
  return {{"some unused", 13, 8, 2, 12, 10, 5},
          {"every expert", 6, 4, 4, 7, 5, 4},
          {"one expert", 5, 1, 1, 8, 3, 1},
          {"one token", 1, 6, 3, 4, 4, 6},
          {"size one", 1, 1, 1, 1, 1, 1},
          {"no token", 0, 4, 2, 8, 6, 4}};
}

// K distinct experts of each token, in no order.
at::Tensor chosen_experts(const ExpertsCase& c) {
  const auto scores = normal_tensor(text(c.name, " experts"), {c.T, c.used});
  return scores.argsort(int64_t{-1}, false).narrow(-1, 0, c.K);
}

std::vector<testing::OpInput> inputs(const ExpertsCase& c) {
  const auto named = [&](const char* what, std::vector<int64_t> shape) {
    return normal_tensor(text(c.name, " ", what), shape);
  };
  return {{named("x", {c.T, c.D})},
          wide(named("weights", {c.T, c.K}).abs()),
          wide(named("w1", {c.E, c.F, c.D})),
          wide(named("w2", {c.E, c.D, c.F})),
          wide(named("w3", {c.E, c.F, c.D}))};
}

TEST(RoutedExperts, EqualTheirReference) {
  for (const auto& c : cases()) {
    const auto experts = chosen_experts(c);
    check_op(text("experts ", c.name),
             {.fused =
                  [&](const auto& in) {
                    return routed_experts(
                        in[0], experts.to(in[0].device()), in[1], in[2], in[3], in[4], kLimit);
                  },
              .reference =
                  [&](const auto& in) {
                    return routed_experts_reference(
                        in[0], experts.to(in[0].device()), in[1], in[2], in[3], in[4], kLimit);
                  },
              .inputs = inputs(c),
              // Weights, pre-activations, hidden values and outputs are rounded, each by up to
              // 2^-9, and a rounded pre-activation may fall to the other side of the clamp.
              .bfloat16 = 1.0 / 16,
              .gradcheck = c.T > 0});
  }
}

// The formula of the header, token by token.
TEST(RoutedExperts, SumTheWeightedOutputsOfTheChosenExperts) {
  for (const auto& c : cases()) {
    const auto experts = chosen_experts(c);
    const auto in = inputs(c);
    const auto &x = in[0].value, &weights = in[1].value;
    auto want = at::zeros({c.T, c.D}, at::kDouble);
    for (int64_t t = 0; t < c.T; ++t) {
      for (int64_t k = 0; k < c.K; ++k) {
        const auto e = experts[t][k].item<int64_t>();
        const auto gate = in[2].value[e].mv(x[t]).clamp_max(kLimit);
        const auto up = in[4].value[e].mv(x[t]).clamp(-kLimit, kLimit);
        want[t] += weights[t][k] * in[3].value[e].mv(gate / (1 + (-gate).exp()) * up);
      }
    }
    const auto got =
        routed_experts(x, experts, weights, in[2].value, in[3].value, in[4].value, kLimit);
    testing::expect_close(c.name, got, want, {.relative = 1e-13});
  }
}

TEST(RoutedExperts, GiveAWideResultAndUnusedExpertsNoGradient) {
  const ExpertsCase c = cases()[0];
  auto in = inputs(c);
  for (auto& input : in) {
    input.value = input.value.to(at::kFloat);
  }
  auto w1 = in[2].value.requires_grad_(true);
  const auto y = routed_experts(in[0].value.to(at::kBFloat16),
                                chosen_experts(c),
                                in[1].value,
                                w1,
                                in[3].value,
                                in[4].value,
                                kLimit);
  EXPECT_EQ(y.scalar_type(), at::kFloat);
  y.sum().backward();
  EXPECT_EQ(w1.grad().scalar_type(), at::kFloat);
  EXPECT_EQ(w1.grad().narrow(0, c.used, c.E - c.used).abs().max().item<float>(), 0);
  EXPECT_GT(w1.grad().narrow(0, 0, c.used).abs().amax({1, 2}).min().item<float>(), 0);
}

TEST(SortedByExpert, KeepsTheTokensOfAnExpertInOrder) {
  const auto experts = at::tensor({2, 0, 0, 3, 2, 3}, at::kLong).view({3, 2});
  const auto order = sorted_by_expert(experts, 5);
  EXPECT_EQ(order.first_E, (std::vector<int64_t>{0, 2, 2, 4, 6, 6}));
  EXPECT_TRUE(order.pair_R.equal(at::tensor({1, 2, 0, 4, 3, 5}, at::kLong)));
  EXPECT_TRUE(order.row_TK.index_select(0, order.pair_R).equal(at::arange(6, at::kLong)));
}

TEST(RoutedExperts, RefuseWhatDoesNotFit) {
  const auto x = at::ones({3, 8}), weights = at::ones({3, 2});
  const auto w1 = at::ones({4, 6, 8}), w2 = at::ones({4, 8, 6});
  const auto experts = at::zeros({3, 2}, at::kLong);
  const auto message =
      testing::error_of([&] { routed_experts(x, experts, weights, w1, w1, w1, kLimit); });
  EXPECT_EQ(
      message,
      "[routed_experts] shapes do not fit: x [3, 8], experts [3, 2], weights [3, 2], w1 [4, 6, 8], "
      "w2 [4, 6, 8], w3 [4, 6, 8]");
  EXPECT_NE(testing::error_of([&] {
              routed_experts(x, experts, at::ones({3, 1}), w1, w2, w1, kLimit);
            }),
            "");
  for (const int64_t expert : {-1, 4}) {
    const auto out_of_range = testing::error_of([&] {
      routed_experts(x, at::full({3, 2}, expert, at::kLong), weights, w1, w2, w1, kLimit);
    });
    EXPECT_TRUE(out_of_range.starts_with(text("[routed_experts] expert ", expert))) << out_of_range;
  }
}

}  // namespace
}  // namespace braid
