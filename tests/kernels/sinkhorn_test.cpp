#include "kernels/sinkhorn.h"

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
using testing::wide;

constexpr double kEps = 1e-6;

at::Tensor golden_logits() {
  auto logits = at::empty({4, 4}, at::kDouble);
  for (int64_t j = 0; j < 4; ++j) {
    for (int64_t k = 0; k < 4; ++k) {
      logits[j][k] = std::sin(1.0 + 3.0 * static_cast<double>(j) + 7.0 * static_cast<double>(k));
    }
  }
  return logits;
}

// docs/equations.md (69), seven digits.
at::Tensor golden_matrix() {
  return at::tensor({.2854090,
                     .3324731,
                     .2585574,
                     .1235595,
                     .2090778,
                     .1647236,
                     .2306494,
                     .3955482,
                     .2270663,
                     .3184962,
                     .2980578,
                     .1563787,
                     .2784459,
                     .1843061,
                     .2127345,
                     .3245125},
                    at::kDouble)
      .view({4, 4});
}

TEST(Sinkhorn, GivesTheGoldenMatrix) {
  for (const auto& op : {sinkhorn, sinkhorn_reference}) {
    const auto matrix = op(golden_logits().unsqueeze(0), 20, kEps)[0];
    expect_close("matrix", matrix, golden_matrix(), {.absolute = 6e-8});
    EXPECT_GT((matrix.t() - golden_matrix()).abs().max().item<double>(), 0.1);
    const auto transposed = op(golden_logits().t().contiguous().unsqueeze(0), 20, kEps)[0];
    EXPECT_GT((transposed - golden_matrix()).abs().max().item<double>(), 0.1);
    EXPECT_GT((transposed.t() - golden_matrix()).abs().max().item<double>(), 1e-7)
        << "rows and columns take turns in the wrong order";
  }
}

// M = 9 is beyond the fused kernel, which hands it to the reference. The matrix has M^2 numbers,
// each divided 39 times: float32 errors of values grow to some 1e-6.
TEST(Sinkhorn, EqualsItsReference) {
  for (const int64_t M : {1, 2, 3, 4, 8, 9}) {
    for (const int64_t T : {1, 15, 16, 19}) {
      for (const int64_t iterations : {1, 2, 20}) {
        const auto name = text("sinkhorn M ", M, " T ", T, " iterations ", iterations);
        const bool trivial = M == 1;  // the matrix is 1: its gradient is rounding alone
        check_op(name,
                 {.fused = [=](const auto& in) { return sinkhorn(in[0], iterations, kEps); },
                  .reference =
                      [=](const auto& in) { return sinkhorn_reference(in[0], iterations, kEps); },
                  .inputs = {wide(normal_tensor(name, {T, M, M}))},
                  .float64 = trivial ? 1 : 1e-13,
                  .float32 = trivial ? 1 : 5e-6,
                  .bfloat16 = trivial ? 1 : 5e-6,
                  .gradcheck = T == 1});
      }
    }
  }
}

TEST(Sinkhorn, OfOneStreamIsOneMinusEps) {
  const auto matrix = sinkhorn(normal_tensor("logits", {5, 1, 1}), 20, kEps);
  expect_close("matrix", matrix, at::full({5, 1, 1}, 1 - kEps, at::kDouble), {.absolute = 1e-11});
}

TEST(Sinkhorn, TakesAnyLeadingAxesAndNoToken) {
  const auto logits = normal_tensor("logits", {2, 3, 4, 4});
  testing::expect_bitwise_equal("batch",
                                sinkhorn(logits, 20, kEps),
                                sinkhorn(logits.flatten(0, 1), 20, kEps).view({2, 3, 4, 4}));
  EXPECT_EQ(sinkhorn(at::empty({0, 4, 4}), 20, kEps).sizes(), at::IntArrayRef({0, 4, 4}));
}

// The last step divides a column by its sum S + eps, and S is 1 up to what the step before left.
TEST(Sinkhorn, ColumnsSumToOneMinusEpsWhateverTheInput) {
  for (const double spread : {0.0, 0.3, 3.0, 30.0}) {
    const auto logits = spread * normal_tensor("logits", {50, 4, 4});
    const auto want = at::full({50, 4}, 1 - kEps, at::kDouble);
    expect_close(
        text("spread ", spread), sinkhorn(logits, 20, kEps).sum(-2), want, {.absolute = 2e-7});
    expect_close(text("float32, spread ", spread),
                 sinkhorn(logits.to(at::kFloat), 20, kEps).sum(-2),
                 want,
                 {.absolute = 1e-6});
  }
  const auto rows = sinkhorn(0.3 * normal_tensor("logits", {50, 4, 4}), 20, kEps).sum(-1);
  expect_close("rows of mild logits", rows, at::ones({50, 4}, at::kDouble), {.absolute = 1e-5});
}

TEST(Sinkhorn, ATokenDoesNotDependOnItsNeighbors) {
  const auto logits = normal_tensor("logits", {37, 4, 4}, at::kFloat);
  const auto together = sinkhorn(logits, 20, kEps);
  for (const int64_t t : {0, 15, 16, 36}) {
    testing::expect_bitwise_equal(
        text("token ", t), sinkhorn(logits.narrow(0, t, 1), 20, kEps), together.narrow(0, t, 1));
  }
}

TEST(Sinkhorn, RefusesWhatIsNoSquareMatrixAndNoIteration) {
  EXPECT_EQ(testing::error_of([] {
              sinkhorn(at::ones({2, 3, 4}), 20, kEps);
            }),
            "[sinkhorn] expected square matrices and at least one iteration, got [2, 3, 4] and 20");
  EXPECT_NE(testing::error_of([] { sinkhorn(at::ones({2, 4, 4}), 0, kEps); }), "");
}

}  // namespace
}  // namespace braid
