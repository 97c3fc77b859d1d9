#include "optim/clip.h"

#include <cmath>
#include <limits>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace braid {
namespace {

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

}  // namespace
}  // namespace braid
