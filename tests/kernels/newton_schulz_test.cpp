#include "kernels/newton_schulz.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/support/compare.h"
#include "tests/support/devices.h"
#include "tests/support/kernels_on_host.h"
#include "tests/support/normal_tensor.h"
#include "tests/support/strict_device.h"

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

// Several tiles, none of them whole, of matrices that are wide, tall and square.
TEST(NewtonSchulz, Bfloat16ProductsOfADeviceOrthogonalizeToOnePercentOrTwo) {
  for (const auto& [form, tolerance] :
       {std::pair{GramForm::kNever, 0.01}, {GramForm::kAlways, 0.02}}) {
    const NewtonSchulzOptions options{.bfloat16_products = true, .gram = form};
    for (const auto& sizes :
         {std::vector<int64_t>{2, 72, 200}, {1, 136, 40}, {1, 136, 272}, {2, 8, 16}}) {
      const auto x = normal_tensor("X", sizes, at::kFloat);
      const auto want = newton_schulz_reference(x, {.gram = form});
      at::Tensor first;
      for (const auto& [order, capability] :
           {std::pair{0, 9}, {1, 9}, {2, 9}, {0, 8}, {1, 8}, {2, 8}}) {
        const testing::KernelsOnHost kernels(order, capability);
        const auto o = newton_schulz(x.to(testing::strict_device()), options).cpu();
        EXPECT_GT(kernels.launches(), 0);
        const auto name = text("O of ", x.sizes(), ", order ", order, " on ", capability);
        expect_close(name, o, want, {.relative = tolerance});
        if (order == 0) {
          first = o;
          const auto values = at::linalg_svdvals(o.to(at::kDouble));
          EXPECT_LT(values.max().item<double>(), 1 + tolerance) << name;
          EXPECT_GT(values.min().item<double>(), 1 - tolerance) << name;
        }
        testing::expect_bitwise_equal(name, o, first);
      }
    }
  }
}

// The triangle of several tiles each way: one step of its two symmetric products.
TEST(NewtonSchulz, Bfloat16ProductsOfADeviceAreThoseOfLargeMatrices) {
  const NewtonSchulzOptions options{
      .steps = 1, .final_steps = 0, .bfloat16_products = true, .gram = GramForm::kNever};
  const auto x = normal_tensor("X", {1, 392, 400}, at::kFloat);
  const auto want = newton_schulz_reference(x.to(at::kDouble), options);
  for (const int capability : {9, 8}) {
    const testing::KernelsOnHost kernels(/*order=*/1, capability);
    const auto o = newton_schulz(x.to(testing::strict_device()), options);
    expect_close(text("on ", capability), o, want, {.relative = 0.01});
  }
}

// Other sides, and options that do not ask for it, take the twin.
TEST(NewtonSchulz, Bfloat16ProductsOfADeviceAreOfSidesThatAreMultiplesOfEight) {
  const testing::KernelsOnHost kernels;
  const auto x = normal_tensor("X", {1, 12, 24}, at::kFloat).to(testing::strict_device());
  newton_schulz(x, {.bfloat16_products = true});
  newton_schulz(x.narrow(1, 0, 8), {});
  EXPECT_EQ(kernels.launches(), 0);
}

TEST(NewtonSchulz, TheGramFormEqualsItsReferenceOnEveryDevice) {
  const NewtonSchulzOptions gram{.gram = GramForm::kAlways};
  for (const auto& sizes :
       {std::vector<int64_t>{3, 70, 130}, {1, 130, 70}, {2, 32, 300}, {5, 5, 7}, {0, 4, 6}}) {
    const auto x = normal_tensor("X", sizes);
    const auto want = newton_schulz_reference(x, gram);
    for (const auto device : testing::devices()) {
      for (const auto& [type, tolerance] : {std::pair{at::kDouble, 1e-11}, {at::kFloat, 1e-4}}) {
        expect_close(text(x.sizes(), " ", type, " on ", device),
                     newton_schulz(x.to(type).to(device), gram),
                     want,
                     {.relative = tolerance});
      }
    }
  }
}

// Both an even and an odd number of iterations.
TEST(NewtonSchulz, TheGramFormEqualsTheOtherOneButForRounding) {
  for (const auto& [steps, final_steps] : {std::pair<int64_t, int64_t>{8, 2}, {5, 0}, {1, 0}}) {
    const NewtonSchulzOptions direct{
        .steps = steps, .final_steps = final_steps, .gram = GramForm::kNever},
        gram{.steps = steps, .final_steps = final_steps, .gram = GramForm::kAlways};
    for (const auto& sizes : {std::vector<int64_t>{2, 24, 40}, {1, 40, 24}, {1, 32, 32}}) {
      const auto x = normal_tensor("X", sizes);
      expect_close(text(steps, " of ", x.sizes()),
                   newton_schulz(x, gram),
                   newton_schulz(x, direct),
                   {.relative = 1e-9});
    }
  }
}

// Singular values from 1 to 1e-4: what rounding does to the Gram matrix must not grow.
TEST(NewtonSchulz, TheGramFormSettlesSmallSingularValuesInFloat32) {
  const auto basis = [](const char* name, int64_t size) {
    return std::get<0>(at::linalg_qr(normal_tensor(name, {1, size, size})));
  };
  const auto spectrum = at::logspace(0, -4, 64, 10, at::kDouble);
  const auto x = at::matmul(basis("U", 64) * spectrum, basis("V", 96).narrow(1, 0, 64));
  for (const bool bf16 : {false, true}) {
    const NewtonSchulzOptions gram{.bfloat16_products = bf16, .gram = GramForm::kAlways};
    const auto o = newton_schulz(x.to(at::kFloat), gram);
    const auto values = at::linalg_svdvals(o.to(at::kDouble));
    const double tolerance = bf16 ? 0.03 : 0.003;
    EXPECT_LT(values.max().item<double>(), 1 + tolerance) << "bfloat16: " << bf16;
    EXPECT_GT(values.min().item<double>(), 1 - tolerance) << "bfloat16: " << bf16;
  }
}

TEST(NewtonSchulz, TakesTheGramFormOfLongMatrices) {
  EXPECT_FALSE(in_gram_form(64, 64, {}));
  EXPECT_FALSE(in_gram_form(64, 90, {}));
  EXPECT_TRUE(in_gram_form(64, 96, {}));
  EXPECT_TRUE(in_gram_form(96, 64, {}));
  EXPECT_TRUE(in_gram_form(64, 64, {.gram = GramForm::kAlways}));
  EXPECT_FALSE(in_gram_form(8, 64, {.gram = GramForm::kNever}));
  const auto x = normal_tensor("X", {1, 24, 48}, at::kFloat);
  testing::expect_bitwise_equal(
      "long", newton_schulz(x, {}), newton_schulz(x, {.gram = GramForm::kAlways}));
}

TEST(NewtonSchulz, RefusesOtherPrecisions) {
  EXPECT_THROW(newton_schulz(at::zeros({1, 2, 2}, at::kBFloat16), {}), Error);
  EXPECT_THROW(newton_schulz(at::zeros({2, 2}, at::kFloat), {}), Error);
}

TEST(NewtonSchulz, CountsItsOperations) {
  const auto tall = newton_schulz_iteration_flops(10, 6),
             wide = newton_schulz_iteration_flops(6, 10);
  const NewtonSchulzOptions direct{.gram = GramForm::kNever};
  EXPECT_EQ(tall.whole, 4 * 6 * 6 * 10 + 2 * 6 * 6 * 6);
  EXPECT_EQ(tall.least, 3 * 6 * 6 * 10 + 6 * 6 * 6);
  EXPECT_EQ(wide.whole, tall.whole);
  EXPECT_EQ(wide.least, tall.least);
  EXPECT_EQ(newton_schulz_flops(10, 6, direct).whole, 10 * tall.whole);
  const NewtonSchulzOptions three{.steps = 3, .final_steps = 0, .gram = GramForm::kAlways};
  EXPECT_EQ(newton_schulz_flops(10, 6, three).whole, 4 * 6 * 6 * 10 + 10 * 6 * 6 * 6 + tall.whole);
  EXPECT_EQ(newton_schulz_flops(10, 6, three).least, 3 * 6 * 6 * 10 + 5 * 6 * 6 * 6 + tall.least);
}

}  // namespace
}  // namespace braid
