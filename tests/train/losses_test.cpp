// Named terms: what an objective declares is all that summing, checking and reporting need.
#include "train/losses.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/loading/corpus.h"
#include "tests/support/compare.h"
#include "train/step_result.h"

namespace braid {
namespace {

MicroBatchLoss declared() {
  MicroBatchLoss loss;
  loss.declare(LossTerm{.name = "loss", .label = "loss"});
  loss.declare(LossTerm{.name = "extra_loss", .label = "extra loss", .weight = 0.5});
  loss.declare(LossRatio{.name = "accuracy"});
  return loss;
}

TEST(Losses, ATermIsASumOfMeansAndTheTotalWeighsThem) {
  auto loss = declared();
  loss.set_tokens(3);
  const auto x = at::tensor({6.0, 8.0, 20.0}).requires_grad_();
  loss.add("loss", x[0], 3);
  loss.add("extra_loss", x[1], 2);
  loss.add("extra_loss", x[2], 10);
  EXPECT_EQ(loss.total().item<double>(), 2 + 0.5 * (4 + 2));
  loss.backward();
  EXPECT_TRUE(x.grad().equal(at::tensor({1.0 / 3, 0.5 / 2, 0.5 / 10})));
  const auto losses = loss.read();
  EXPECT_EQ(losses.loss(), 2);
  EXPECT_EQ(losses.tokens, 3);
  EXPECT_EQ(losses.value("extra_loss"), 6);
}

TEST(Losses, MicroBatchesAddUpWithEverythingThatWasMeasured) {
  std::vector<Losses> micro_batches;
  for (const double value : {1.0, 2.0}) {
    auto loss = declared();
    loss.set_tokens(1);
    loss.add("loss", at::tensor(value), 1);
    loss.add_load(at::tensor({value, 3.0}, at::kDouble));
    loss.add_to_ratio("accuracy", at::tensor({value, 4.0}));
    micro_batches.push_back(loss.read());
  }
  const auto sum = sum_over_ranks(micro_batches, *alone());
  EXPECT_EQ(sum.numbers(), (std::vector<double>{3, 0, 3, 8, 3, 6}));
  EXPECT_EQ(sum.tokens, 1) << "counts are the whole step's already";
}

TEST(Losses, WhatIsNotFiniteIsCalledByItsLabel) {
  auto loss = declared();
  loss.add("loss", at::tensor(1.0), 1);
  loss.add("extra_loss", at::tensor(std::nan("")), 1);
  GradientNorms gradients;
  gradients.not_finite["head"] = "head.weight";
  EXPECT_EQ(list_not_finite(loss.read(), gradients), "extra loss, gradients of head (head.weight)");
  EXPECT_EQ(list_not_finite(declared().read(), {}), "");
}

TEST(Losses, ATermThatWasNotDeclaredIsAnError) {
  auto loss = declared();
  testing::expect_mentions(testing::error_of([&] { loss.add("los", at::tensor(1.0), 1); }),
                           {"declares no loss 'los'"});
}

}  // namespace
}  // namespace braid
