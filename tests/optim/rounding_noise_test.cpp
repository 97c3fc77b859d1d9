#include "optim/rounding_noise.h"

#include <gtest/gtest.h>

namespace braid {
namespace {

// The RMS of all gradients is 1.
constexpr SquareSum kAll{1e6, 1000000};

SquareSum of_rms(double rms, int64_t elements) {
  return {rms * rms * static_cast<double>(elements), elements};
}

TEST(RoundingNoise, IsWhatLiesBelowTheRoundoffOfAllGradients) {
  for (const int64_t elements : {1, 128, 100000}) {
    EXPECT_TRUE(is_rounding_noise(of_rms(5e-8, elements), kAll, at::kFloat));
    EXPECT_FALSE(is_rounding_noise(of_rms(7e-8, elements), kAll, at::kFloat));
    EXPECT_FALSE(is_rounding_noise(of_rms(5e-8, elements), kAll, at::kDouble));
    EXPECT_TRUE(is_rounding_noise(of_rms(1e-16, elements), kAll, at::kDouble));
    EXPECT_FALSE(is_rounding_noise(of_rms(2e-16, elements), kAll, at::kDouble));
  }
}

TEST(RoundingNoise, DoesNotDependOnTheLossesScale) {
  const SquareSum tiny{1e-34, 1000000};
  EXPECT_TRUE(is_rounding_noise(of_rms(5e-28, 10), tiny, at::kFloat));
  EXPECT_FALSE(is_rounding_noise(of_rms(2e-27, 10), tiny, at::kFloat));
}

TEST(RoundingNoise, IsNeverAGradientOfZeros) {
  EXPECT_FALSE(is_rounding_noise({0, 10}, kAll, at::kFloat));
  EXPECT_FALSE(is_rounding_noise({0, 10}, {0, 10}, at::kFloat));
  EXPECT_FALSE(is_rounding_noise({0, 0}, kAll, at::kFloat));
}

}  // namespace
}  // namespace braid
