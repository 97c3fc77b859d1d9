#include "kernels/gemm.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/kernels/check_op.h"
#include "tests/support/compare.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using namespace testing;

struct Sizes {
  int64_t m, n, k;
};

const std::vector<Sizes> kSizes = {{1, 5, 7},
                                   {64, 256, 128},
                                   {8, 24, 512},
                                   {65, 300, 700},
                                   {130, 31, 1100},
                                   {7, 513, 40},
                                   {3, 2, 0}};

// Rows without gaps, columns without gaps, and rows with something between them.
std::vector<at::Tensor> layouts_of(const at::Tensor& matrix) {
  const auto wide = at::zeros({matrix.size(0), matrix.size(1) + 3}, matrix.options());
  auto with_gaps = wide.narrow(1, 1, matrix.size(1));
  with_gaps.copy_(matrix);
  return {matrix, matrix.t().contiguous().t(), with_gaps};
}

TEST(Multiply, IsTheProductInEveryLayoutAndType) {
  for (const auto& [m, n, k] : kSizes) {
    for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16}) {
      const auto a = normal_tensor("a", {m, k}).to(type), b = normal_tensor("b", {k, n}).to(type);
      const auto want = at::matmul(a.to(at::kDouble), b.to(at::kDouble));
      const double tolerance = type == at::kDouble ? 1e-13 : type == at::kFloat ? 1e-6 : 1.0 / 128;
      for (const auto& a_layout : layouts_of(a)) {
        for (const auto& b_layout : layouts_of(b)) {
          const auto what = text(type, " ", m, " x ", n, " x ", k);
          expect_close(what,
                       multiplied(a_layout, b_layout),
                       want,
                       {.absolute = 1e-12, .relative = tolerance});
          auto c = layouts_of(normal_tensor("c", {m, n}).to(type))[2];
          const auto sum = want + c.to(at::kDouble);
          multiply(a_layout, b_layout, c, /*accumulate=*/true);
          expect_close(what, c, sum, {.absolute = 1e-12, .relative = tolerance});
        }
      }
    }
  }
}

TEST(Multiply, DoesNotDependOnTheThreads) {
  const int before = at::get_num_threads();
  const auto a = normal_tensor("a", {300, 1500}, at::kFloat),
             b = normal_tensor("b", {1500, 130}, at::kFloat);
  at::set_num_threads(1);
  const auto one = multiplied(a, b);
  at::set_num_threads(2);
  expect_bitwise_equal("two threads", multiplied(a, b), one);
  at::set_num_threads(before);
}

TEST(LinearProduct, EqualsItsReference) {
  check_op("linear",
           {.fused = [](const auto& in) { return linear_product(in[0], in[1]); },
            .reference = [](const auto& in) { return at::linear(in[0], in[1]); },
            .inputs = {{normal_tensor("x", {3, 9, 33})}, {normal_tensor("w", {21, 33})}}});
}

TEST(Multiply, RefusesShapesThatDoNotFit) {
  auto c = at::empty({2, 4});
  const auto message = error_of([&] { multiply(at::ones({2, 3}), at::ones({2, 4}), c); });
  EXPECT_TRUE(message.starts_with("[multiply] ")) << message;
}

}  // namespace
}  // namespace braid
