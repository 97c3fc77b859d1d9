#include "kernels/swiglu.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/kernels/check_op.h"
#include "tests/support/compare.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using testing::check_op;
using testing::expect_close;
using testing::normal_tensor;

constexpr double kLimit = 10;

TEST(ClampedSwiglu, EqualsItsReference) {
  for (const auto& shape :
       std::vector<std::vector<int64_t>>{{4, 48}, {2, 3, 17}, {1, 1}, {16}, {0, 8}}) {
    const auto name = text("swiglu ", at::IntArrayRef(shape));
    // Spread 8 clamps about a fifth of both.
    check_op(
        name,
        {.fused = [](const auto& in) { return clamped_swiglu(in[0], in[1], kLimit); },
         .reference = [](const auto& in) { return clamped_swiglu_reference(in[0], in[1], kLimit); },
         .inputs = {{8 * normal_tensor(name + " gate", shape)},
                    {8 * normal_tensor(name + " up", shape)}}});
  }
}

TEST(ClampedSwiglu, ClampsTheGateFromAboveAndTheOtherOnBothSides) {
  const auto column = [](std::initializer_list<double> values) {
    return at::tensor(values, at::kDouble);
  };
  const auto silu = [](double x) { return x / (1 + std::exp(-x)); };
  const auto gate = column({20, -20, 3, 3, 3}), up = column({2, 2, 20, -20, 4});
  const auto want = column({2 * silu(10), 2 * silu(-20), 10 * silu(3), -10 * silu(3), 4 * silu(3)});
  expect_close("h", clamped_swiglu(gate, up, kLimit), want, {.relative = 1e-15});
}

// Exactly 10 does occur in bfloat16; torch.clamp passes the gradient there, torch.minimum half of
// it.
TEST(ClampedSwiglu, PassesTheWholeGradientAtEqualityAndNoneBeyond) {
  for (const auto& op : {clamped_swiglu, clamped_swiglu_reference}) {
    auto gate = at::tensor({10.0, 10.001, 1.0, 1.0, 1.0, 1.0}, at::kDouble).requires_grad_(true);
    auto up =
        at::tensor({1.0, 1.0, 10.0, -10.0, 10.001, -10.001}, at::kDouble).requires_grad_(true);
    op(gate, up, kLimit).sum().backward();
    const double sigmoid = 1 / (1 + std::exp(-10.0)), slope = sigmoid * (1 + 10 * (1 - sigmoid));
    EXPECT_NEAR(gate.grad()[0].item<double>(), slope, 1e-14);
    EXPECT_EQ(gate.grad()[1].item<double>(), 0);
    const double silu = 1 / (1 + std::exp(-1.0));
    const auto want = at::tensor({silu, silu, 0.0, 0.0}, at::kDouble);
    expect_close("dup", up.grad().narrow(0, 2, 4), want, {.absolute = 1e-15});
  }
}

// silu(x) = x / (1 + e^-x). Its relative error is that of the exponential (2e-7) and of some
// roundings; below -87 the exponential saturates, where silu is smaller than 1e-36.
TEST(ClampedSwiglu, Float32KeepsItsErrorBoundFrom100Below) {
  const auto x = at::linspace(-100, 100, 400001, at::TensorOptions(at::kFloat));
  const auto got = clamped_swiglu(x, at::ones_like(x), 1000).to(at::kDouble);
  const auto exact = at::silu(x.to(at::kDouble));
  const auto allowed = at::where(x > -87, 5e-7 * exact.abs(), at::full({}, 1e-36, at::kDouble));
  const auto excess = (got - exact).abs() - allowed;
  EXPECT_LE(excess.max().item<double>(), 0) << "at x = " << x[excess.argmax()].item<float>();
}

TEST(ClampedSwiglu, HandsNanOn) {
  const auto nan = at::full({1}, std::nan(""), at::kFloat), one = at::ones({1});
  EXPECT_TRUE(std::isnan(clamped_swiglu(nan, one, kLimit).item<float>()));
  EXPECT_TRUE(std::isnan(clamped_swiglu(one, nan, kLimit).item<float>()));
}

TEST(ClampedSwiglu, RefusesInputsOfDifferentShapes) {
  EXPECT_EQ(testing::error_of([] {
              clamped_swiglu(at::ones({2, 5}), at::ones({2, 4}), kLimit);
            }),
            "[clamped_swiglu] gate is [2, 5] but up is [2, 4]");
}

}  // namespace
}  // namespace braid
