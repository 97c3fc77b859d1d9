#include "optim/clip.h"

#include <cmath>
#include <limits>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

TEST(Clip, SquaresOfAnyShapeAreSummedInDouble) {
  EXPECT_EQ(squared_norm(at::full({3, 3}, 2.0f)), 36);
  EXPECT_EQ(squared_norm(at::full({}, 4.0f)), 16);
  EXPECT_EQ(squared_norm(at::zeros({0})), 0);
  for (const auto type : {at::kFloat, at::kDouble}) {
    const auto x = testing::normal_tensor("x", {70'001}, type);
    const double want = x.to(at::kDouble).square().sum().item<double>();
    EXPECT_NEAR(squared_norm(x) / want, 1, 1e-13);
  }
  EXPECT_THROW(squared_norm(at::zeros({2, 3}).t()), Error);
  EXPECT_THROW(squared_norm(at::zeros({2}, at::kBFloat16)), Error);
}

TEST(Clip, TheSumHasTheSameBitsOnAnyNumberOfThreads) {
  const auto x = testing::normal_tensor("x", {100'003}, at::kFloat);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const double alone = squared_norm(x);
  at::set_num_threads(2);
  EXPECT_EQ(squared_norm(x), alone);
  at::set_num_threads(threads);
}

TEST(Clip, LongGradientsAreScaledToTheBound) {
  EXPECT_EQ(clip_factor(13, 6.5), 0.5);
}

TEST(Clip, ShortAndUnlimitedGradientsAreLeftAlone) {
  EXPECT_EQ(clip_factor(13, 13), 1);
  EXPECT_EQ(clip_factor(13, std::nullopt), 1);
}

TEST(Clip, NonFiniteGradientsShowAndAreLeftAlone) {
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    auto gradient = at::full({50}, 5.0f);
    gradient[17] = bad;
    const double square = squared_norm(gradient);
    EXPECT_FALSE(std::isfinite(square));
    EXPECT_EQ(clip_factor(std::sqrt(square), 1), 1);
  }
}

TEST(Clip, LargeFloatGradientsDoNotOverflow) {
  EXPECT_NEAR(squared_norm(at::full({4}, 1e30f)) / 4e60, 1, 1e-6);
}

}  // namespace
}  // namespace braid
