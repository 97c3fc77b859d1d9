#include "optim/adamw.h"

#include <cmath>

#include <gtest/gtest.h>

#include "tests/support/compare.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using testing::normal_tensor;

TEST(AdamW, FollowsTheFormulaElementByElement) {
  const AdamWConfig config{.beta1 = 0.8, .beta2 = 0.9, .epsilon = 1e-3};
  constexpr double kRate = 0.05, kDecay = 0.3;
  const auto value = normal_tensor("value", {3, 5});
  const auto exp_avg = at::zeros_like(value), exp_avg_sq = at::zeros_like(value);
  const auto want = value.clone();
  std::vector<double> m(15, 0), v(15, 0);
  for (int64_t step = 1; step <= 4; ++step) {
    const auto grad = normal_tensor("gradient " + std::to_string(step), {3, 5});
    adamw_update(value, grad, exp_avg, exp_avg_sq, step, kRate, kDecay, config);
    for (std::size_t i = 0; i < 15; ++i) {
      const double g = grad.data_ptr<double>()[i];
      m[i] = 0.8 * m[i] + 0.2 * g;
      v[i] = 0.9 * v[i] + 0.1 * g * g;
      const double m_hat = m[i] / (1 - std::pow(0.8, step)),
                   v_hat = v[i] / (1 - std::pow(0.9, step));
      double& w = want.data_ptr<double>()[i];
      w = w - kRate * kDecay * w - kRate * m_hat / (std::sqrt(v_hat) + 1e-3);
    }
    testing::expect_close("value", value, want, {.relative = 1e-14});
  }
}

TEST(AdamW, RowsWithoutGradientOnlyDecay) {
  const auto value = at::ones({2, 3}, at::kFloat);
  const auto exp_avg = at::zeros_like(value), exp_avg_sq = at::zeros_like(value);
  auto grad = at::zeros_like(value);
  grad[0].fill_(1e-12f);
  for (int64_t step = 1; step <= 3; ++step) {
    adamw_update(value, grad, exp_avg, exp_avg_sq, step, 0.5, 0.5, {});
  }
  testing::expect_close(
      "untouched row", value[1], at::full({3}, std::pow(0.75f, 3.0f)), {.relative = 1e-6});
  // epsilon 1e-20 does not damp gradients of 1e-12: their step is the whole learning rate.
  EXPECT_NEAR(value[0][0].item<double>(), ((0.75 - 0.5) * 0.75 - 0.5) * 0.75 - 0.5, 1e-3);
}

}  // namespace
}  // namespace braid
