#include "optim/adamw.h"

#include <cmath>

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/support/compare.h"
#include "tests/support/devices.h"
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
    adamw_update({{value, grad, exp_avg, exp_avg_sq, {step, kRate, kDecay}}}, config);
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
    adamw_update({{value, grad, exp_avg, exp_avg_sq, {step, 0.5, 0.5}}}, {});
  }
  testing::expect_close(
      "untouched row", value[1], at::full({3}, std::pow(0.75f, 3.0f)), {.relative = 1e-6});
  // epsilon 1e-20 does not damp gradients of 1e-12: their step is the whole learning rate.
  EXPECT_NEAR(value[0][0].item<double>(), ((0.75 - 0.5) * 0.75 - 0.5) * 0.75 - 0.5, 1e-3);
}

TEST(AdamW, EqualsItsPlainTwinAndFoldsTheGradientsFactorIn) {
  for (const auto type : {at::kFloat, at::kDouble}) {
    const auto tensor = [&](const char* name) { return normal_tensor(name, {300, 131}, type); };
    const auto value = tensor("value"), exp_avg = tensor("m"), exp_avg_sq = tensor("v").square();
    const auto want = value.clone(), want_avg = exp_avg.clone(), want_avg_sq = exp_avg_sq.clone();
    const auto grad = tensor("gradient");
    const AdamWStep step{7, 0.01, 0.1, 0.25};
    adamw_update({{value, grad, exp_avg, exp_avg_sq, step}}, {});
    adamw_update_reference({{want, grad, want_avg, want_avg_sq, step}}, {});
    const double rounding = type == at::kFloat ? 1e-6 : 1e-14;
    testing::expect_close("value", value, want, {.relative = rounding});
    testing::expect_close("exp_avg", exp_avg, want_avg, {.relative = rounding});
    testing::expect_close("exp_avg_sq", exp_avg_sq, want_avg_sq, {.relative = rounding});
  }
}

TEST(AdamW, IsTheSameOnEveryDevice) {
  const auto tensor = [&](const char* name) { return normal_tensor(name, {30, 13}); };
  const auto want = tensor("value"), want_avg = tensor("m"), want_avg_sq = tensor("v").square();
  const AdamWStep step{7, 0.01, 0.1, 0.25};
  adamw_update_reference({{want, tensor("gradient"), want_avg, want_avg_sq, step}}, {});
  for (const auto device : testing::devices()) {
    const auto value = tensor("value").to(device), exp_avg = tensor("m").to(device),
               exp_avg_sq = tensor("v").square().to(device);
    adamw_update({{value, tensor("gradient").to(device), exp_avg, exp_avg_sq, step}}, {});
    testing::expect_close(text("value on ", device), value, want, {.relative = 1e-14});
    testing::expect_close(text("m on ", device), exp_avg, want_avg, {.relative = 1e-14});
    testing::expect_close(text("v on ", device), exp_avg_sq, want_avg_sq, {.relative = 1e-14});
  }
}

TEST(AdamW, RefusesTensorsThatDoNotFit) {
  const auto x = at::zeros({4});
  EXPECT_THROW(adamw_update({{x, at::zeros({5}), x.clone(), x.clone(), {}}}, {}), Error);
  EXPECT_THROW(adamw_update({{x, x.to(at::kDouble), x.clone(), x.clone(), {}}}, {}), Error);
}

}  // namespace
}  // namespace braid
