#include "optim/clip.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "tests/support/compare.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

std::vector<at::Tensor> gradients_of_norm_13() {
  return {at::full({3, 3}, 1.0f), at::Tensor(), at::full({4}, 6.0f), at::full({}, 4.0f)};
}

TEST(Clip, NormIsGlobalAndSkipsUndefinedGradients) {
  EXPECT_DOUBLE_EQ(gradient_norm(gradients_of_norm_13()), 13);
  EXPECT_EQ(gradient_norm({}), 0);
}

TEST(Clip, ScalesLongGradientsToTheBound) {
  const auto gradients = gradients_of_norm_13();
  clip_gradients(gradients, 13, 6.5);
  EXPECT_DOUBLE_EQ(gradient_norm(gradients), 6.5);
  testing::expect_close("gradient", gradients[2], at::full({4}, 3.0f), {});
}

TEST(Clip, LeavesShortAndUnlimitedGradientsAlone) {
  const auto gradients = gradients_of_norm_13();
  clip_gradients(gradients, 13, 13);
  clip_gradients(gradients, 13, std::nullopt);
  testing::expect_bitwise_equal("gradient", gradients[2], at::full({4}, 6.0f));
}

TEST(Clip, ReportsNonFiniteGradientsAndLeavesThem) {
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    const std::vector<at::Tensor> gradients = {at::full({2}, 5.0f), at::full({1}, bad)};
    const double norm = gradient_norm(gradients);
    EXPECT_FALSE(std::isfinite(norm));
    clip_gradients(gradients, norm, 1);
    testing::expect_bitwise_equal("gradient", gradients[0], at::full({2}, 5.0f));
  }
}

TEST(Clip, LargeFloatGradientsDoNotOverflow) {
  EXPECT_NEAR(gradient_norm({at::full({4}, 1e30f)}) / 2e30, 1, 1e-6);
}

}  // namespace
}  // namespace braid
