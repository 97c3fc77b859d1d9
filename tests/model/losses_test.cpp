#include "model/losses.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "model/mtp.h"
#include "tests/optim/normal_tensor.h"
#include "tests/support/compare.h"
#include "tests/support/gradcheck.h"

namespace braid {
namespace {

at::Tensor row(std::initializer_list<int64_t> values) {
  return at::tensor(values, at::kLong).unsqueeze(0);
}

TEST(CrossEntropy, SumsOverCountedTargetsOnly) {
  const auto logits = testing::normal_tensor("logits", {1, 3, 5});
  const auto targets = row({4, kIgnoredTarget, 0});
  const auto nats = [&](int64_t t, int64_t target) {
    return -std::log(logits[0][t].exp()[target].item<double>() /
                     logits[0][t].exp().sum().item<double>());
  };
  EXPECT_NEAR(cross_entropy_sum(logits, targets).item<double>(), nats(0, 4) + nats(2, 0), 1e-13);
  EXPECT_EQ(counted_targets(targets), 2);
  testing::expect_gradients_match(
      [&](const std::vector<at::Tensor>& in) {
        return std::vector{cross_entropy_sum(in[0], targets)};
      },
      {logits});
}

TEST(CrossEntropy, WithoutAnyTargetIsZeroWithZeroGradient) {
  auto logits = testing::normal_tensor("logits", {1, 2, 5}).requires_grad_(true);
  const auto loss = cross_entropy_sum(logits, row({kIgnoredTarget, kIgnoredTarget}));
  EXPECT_EQ(loss.item<double>(), 0);
  loss.backward();
  EXPECT_EQ(logits.grad().abs().max().item<double>(), 0);
}

TEST(CrossEntropy, IsWideAndFiniteForLargeLogits) {
  const auto logits = at::tensor({1000.0, -1000.0}).to(at::kBFloat16).view({1, 1, 2});
  const auto loss = cross_entropy_sum(logits, row({1}));
  EXPECT_EQ(loss.scalar_type(), at::kFloat);
  EXPECT_EQ(loss.item<float>(), 2000);
}

TEST(MtpInputs, StayInsideTheirDocument) {
  const auto documents = row({0, 0, 0, 1, 2, 2, -1, -1}), ids = row({5, 6, 7, 8, 9, 4, 0, 0});
  EXPECT_TRUE(next_ids(ids, documents).equal(row({6, 7, 0, 0, 4, 0, 0, 0})));
}

// From next-token targets: the one at t + 2; a document's last two positions have none.
TEST(MtpTargets, StayInsideTheirDocument) {
  constexpr int64_t X = kIgnoredTarget;
  const auto documents = row({0, 0, 0, 0, 1, 2, 2, -1}), targets = row({6, 7, 8, X, X, 4, X, X});
  EXPECT_TRUE(mtp_targets(targets, documents).equal(row({7, 8, X, X, X, X, X, X})));
  EXPECT_TRUE(mtp_targets(row({X}), row({0})).equal(row({X})));
}

}  // namespace
}  // namespace braid
