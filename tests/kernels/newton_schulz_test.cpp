#include "kernels/newton_schulz.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/support/compare.h"
#include "tests/support/devices.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using testing::expect_close;
using testing::normal_tensor;

// Sizes around those of the strips and blocks that the products are cut into.
TEST(NewtonSchulz, EqualsItsReferenceOnEveryDevice) {
  for (const auto& sizes :
       {std::vector<int64_t>{3, 70, 130}, {1, 130, 70}, {2, 32, 300}, {5, 5, 7}, {0, 4, 6}}) {
    const auto x = normal_tensor("X", sizes);
    const auto want = newton_schulz_reference(x, {});
    for (const auto device : testing::devices()) {
      for (const auto& [type, tolerance] : {std::pair{at::kDouble, 1e-11}, {at::kFloat, 1e-4}}) {
        expect_close(text(x.sizes(), " ", type, " on ", device),
                     newton_schulz(x.to(type).to(device), {}),
                     want,
                     {.relative = tolerance});
      }
    }
  }
}

TEST(NewtonSchulz, RankOneGivesNormOne) {
  const auto x = normal_tensor("rows", {1, 8, 1}).matmul(normal_tensor("columns", {1, 1, 12}));
  EXPECT_NEAR(newton_schulz(x, {}).norm().item<double>(), 1, 1e-3);
}

TEST(NewtonSchulz, TinyAndHugeMatricesKeepTheirDirection) {
  const auto grad = normal_tensor("gradient", {1, 16, 24}, at::kFloat);
  const auto want = newton_schulz(grad, {});
  for (const double scale : {1e-18, 1e-12, 1e30}) {
    expect_close("scaled gradient", newton_schulz(grad * scale, {}), want, {.relative = 1e-4});
  }
}

TEST(NewtonSchulz, Bfloat16ProductsOrthogonalizeToOnePercent) {
  const NewtonSchulzOptions options{.bfloat16_products = true};
  for (const auto& sizes :
       {std::vector<int64_t>{2, 70, 130}, {1, 130, 70}, {1, 128, 128}, {3, 5, 600}, {1, 5, 7}}) {
    const auto x = normal_tensor("X", sizes, at::kFloat);
    const auto o = newton_schulz(x, options);
    const auto values = at::linalg_svdvals(o.to(at::kDouble));
    EXPECT_LT(values.max().item<double>(), 1.01) << x.sizes();
    EXPECT_GT(values.min().item<double>(), 0.99) << x.sizes();
    expect_close("O", o, newton_schulz(x, {}), {.relative = 0.01});
  }
}

TEST(NewtonSchulz, RefusesOtherPrecisions) {
  EXPECT_THROW(newton_schulz(at::zeros({1, 2, 2}, at::kBFloat16), {}), Error);
  EXPECT_THROW(newton_schulz(at::zeros({2, 2}, at::kFloat), {}), Error);
}

TEST(NewtonSchulz, CountsItsOperations) {
  const auto tall = newton_schulz_iteration_flops(10, 6),
             wide = newton_schulz_iteration_flops(6, 10);
  EXPECT_EQ(tall.whole, 4 * 6 * 6 * 10 + 2 * 6 * 6 * 6);
  EXPECT_EQ(tall.least, 3 * 6 * 6 * 10 + 6 * 6 * 6);
  EXPECT_EQ(wide.whole, tall.whole);
  EXPECT_EQ(wide.least, tall.least);
}

}  // namespace
}  // namespace braid
