#include "kernels/cross_entropy.h"

#include <cmath>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/kernels/check_op.h"
#include "tests/support/compare.h"
#include "tests/support/devices.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using testing::check_op;
using testing::expect_close;
using testing::normal_tensor;
using testing::wide;

at::Tensor targets_of(int64_t T, int64_t V, bool ignore) {
  const auto t = at::arange(T, at::kLong);
  const auto targets = (t * 7 + 3).remainder(V);
  return ignore ? targets.masked_fill(t.remainder(3) == 1, kIgnoredTarget) : targets;
}

// float32, as batches have them: exact in either wide type.
at::Tensor weights_of(int64_t T) {
  return (at::arange(T).remainder(4) + 1).to(at::kFloat) / 4;
}

// Sums of some dozens of losses, and head gradients that sum as many terms.
TEST(CrossEntropy, EqualsItsReferenceInOneChunkAndInMany) {
  for (const auto& [T, V] : {std::pair{9, 31}, {200, 37}, {1, 1}, {65, 16}}) {
    for (const bool ignore : {false, true}) {
      for (const int64_t bytes : {int64_t{1}, kLogitBytes}) {  // 1: chunks of the least size, 64
        const bool weighted = bytes == 1;
        const auto name = text("cross entropy ", T, " ", V, " ", ignore, " ", bytes);
        const auto targets = targets_of(T, V, ignore);
        const auto weights_for = [&](const at::Tensor& hidden) {
          return weighted ? weights_of(T).to(hidden.device()) : at::Tensor();
        };
        check_op(name,
                 {.fused =
                      [&](const auto& in) {
                        return cross_entropy_sum(
                            in[0], in[1], targets.to(in[0].device()), weights_for(in[0]), bytes);
                      },
                  .reference =
                      [&](const auto& in) {
                        return cross_entropy_sum_reference(
                            in[0], in[1], targets.to(in[0].device()), weights_for(in[0]));
                      },
                  .inputs = {{normal_tensor(name + " hidden", {T, 12})},
                             wide(normal_tensor(name + " head", {V, 12}))}});
      }
    }
  }
}

TEST(CrossEntropy, OfEachTokenSumsToTheSum) {
  for (const auto& device : testing::devices()) {
    const auto hidden = normal_tensor("hidden", {20, 6}).to(device),
               head = normal_tensor("head", {11, 6}).to(device);
    const auto targets = targets_of(20, 11, true).to(device);
    const auto each = cross_entropy_each(hidden, head, targets);
    expect_close("sum", each.sum(), cross_entropy_sum(hidden, head, targets), {.relative = 1e-14});
    const auto log_p = at::linear(hidden, head).log_softmax(-1);
    EXPECT_NEAR(each[0].item<double>(), -log_p[0][3].item<double>(), 1e-13);
    EXPECT_EQ(each[1].item<double>(), 0);
  }
}

TEST(CrossEntropy, AWeightMultipliesATokensLossAndGradient) {
  auto hidden = normal_tensor("hidden", {6, 4}).requires_grad_(true);
  const auto head = normal_tensor("head", {9, 4});
  const auto targets = targets_of(6, 9, true), weights = weights_of(6);
  const auto sum = cross_entropy_sum(hidden, head, targets, weights);
  expect_close(
      "sum", sum, (cross_entropy_each(hidden, head, targets) * weights).sum(), {.relative = 1e-14});
  sum.backward();
  const auto weighted = hidden.grad().clone();
  hidden.mutable_grad().zero_();
  cross_entropy_sum(hidden, head, targets).backward();
  expect_close("gradient", weighted, hidden.grad() * weights.unsqueeze(1), {.relative = 1e-13});
}

TEST(CrossEntropy, WithoutAnyTargetIsZeroWithZeroGradients) {
  auto hidden = normal_tensor("hidden", {2, 3}).requires_grad_(true),
       head = normal_tensor("head", {5, 3}).requires_grad_(true);
  const auto loss = cross_entropy_sum(hidden, head, at::full({2}, kIgnoredTarget, at::kLong));
  EXPECT_EQ(loss.item<double>(), 0);
  loss.backward();
  EXPECT_EQ(hidden.grad().abs().max().item<double>(), 0);
  EXPECT_EQ(head.grad().abs().max().item<double>(), 0);
}

TEST(CrossEntropy, GivesAFrozenHeadNoGradient) {
  auto hidden = normal_tensor("hidden", {4, 3}).requires_grad_(true);
  const auto head = normal_tensor("head", {5, 3});
  cross_entropy_sum(hidden, head, targets_of(4, 5, false)).backward();
  EXPECT_TRUE(hidden.grad().defined());
  EXPECT_FALSE(head.grad().defined());
}

TEST(CrossEntropy, StaysFiniteForLargeLogitsAndHandsNanOn) {
  const auto head = at::tensor({1000.0f, -1000.0f}).view({2, 1}), one = at::ones({1, 1});
  const auto loss = cross_entropy_sum(one, head, at::ones({1}, at::kLong));
  EXPECT_EQ(loss.item<float>(), 2000);
  const auto nan = at::full({1, 1}, std::nan(""), at::kFloat);
  EXPECT_TRUE(std::isnan(cross_entropy_sum(nan, head, at::ones({1}, at::kLong)).item<float>()));
}

// The sum of 100,000 terms e^x in float32.
TEST(CrossEntropy, KeepsItsErrorBoundForALargeVocabulary) {
  const auto hidden = normal_tensor("hidden", {3, 4}), head = normal_tensor("head", {100000, 4});
  const auto targets = targets_of(3, 100000, false);
  const auto want = cross_entropy_each(hidden, head, targets);
  const auto got = cross_entropy_each(hidden.to(at::kFloat), head.to(at::kFloat), targets);
  expect_close("losses", got, want, {.absolute = 1e-5});
}

TEST(CrossEntropy, RefusesTargetsOutsideTheVocabularyAndASecondBackwardPass) {
  auto hidden = normal_tensor("hidden", {1, 3}).requires_grad_(true);
  const auto head = normal_tensor("head", {5, 3});
  EXPECT_EQ(
      testing::error_of([&] { cross_entropy_sum(hidden, head, at::full({1}, 5, at::kLong)); }),
      "[cross_entropy] targets must lie in [0, 5) or be -100");
  const auto loss = cross_entropy_sum(hidden, head, at::zeros({1}, at::kLong));
  loss.backward({}, /*retain_graph=*/true);
  EXPECT_EQ(testing::error_of([&] { loss.backward(); }),
            "[cross_entropy] the backward pass ran a second time; its gradients are gone");
}

}  // namespace
}  // namespace braid
