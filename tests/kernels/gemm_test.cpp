#include "kernels/gemm.h"

#include <cmath>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/kernels/check_op.h"
#include "tests/support/compare.h"
#include "tests/support/devices.h"
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

TEST(Float32Products, RoundToTf32OnlyWhileThatIsAskedFor) {
  for (const auto products :
       {Float32Products::kTf32, Float32Products::kBf16x3, Float32Products::kExact}) {
    use_float32_products(products);
    EXPECT_EQ(at::globalContext().allowTF32CuBLAS(), products == Float32Products::kTf32);
    EXPECT_NE(float32_products(), Float32Products::kTf32);  // of the CPU
  }
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

// Products of bfloat16 numbers are exact in float32 and their sum is float32: what is left is the
// rounding of the result, by at most 2^-9, or that of the sums, as between float32 matrices.
TEST(Multiply, RoundsAFloat32PartnerOfBfloat16AndGivesEitherType) {
  for (const auto& [m, n, k] : kSizes) {
    const auto a = normal_tensor("a", {m, k}, at::kFloat),
               b = normal_tensor("b", {k, n}, at::kFloat);
    const auto a16 = a.to(at::kBFloat16), b16 = b.to(at::kBFloat16);
    const auto want = at::matmul(a16.to(at::kDouble), b16.to(at::kDouble));
    for (const auto& [left, right] : {std::pair{a16, b}, {a, b16}, {a16, b16}}) {
      for (const auto& a_layout : layouts_of(left)) {
        for (const auto& b_layout : layouts_of(right)) {
          for (const auto type : {at::kFloat, at::kBFloat16}) {
            const auto what = text(left.scalar_type(),
                                   " ",
                                   right.scalar_type(),
                                   " -> ",
                                   type,
                                   " ",
                                   m,
                                   " x ",
                                   n,
                                   " x ",
                                   k);
            const double tolerance = type == at::kFloat ? 1e-6 : 1.0 / 512;
            auto c = at::empty({m, n}, type);
            multiply(a_layout, b_layout, c);
            expect_close(what, c, want, {.absolute = 1e-12, .relative = tolerance});
          }
        }
      }
    }
  }
}

TEST(Multiply, EqualsItsReferenceOnEveryDevice) {
  const auto a = normal_tensor("a", {65, 70}, at::kFloat),
             b = normal_tensor("b", {70, 31}, at::kFloat),
             c = normal_tensor("c", {65, 31}, at::kFloat);
  const auto bf16 = at::kBFloat16;
  struct Types {
    at::ScalarType a, b, c;
  };
  for (const auto& types : {Types{at::kDouble, at::kDouble, at::kDouble},
                            {at::kFloat, at::kFloat, at::kFloat},
                            {at::kFloat, at::kFloat, bf16},
                            {bf16, at::kFloat, at::kFloat},
                            {bf16, at::kFloat, bf16},
                            {bf16, bf16, bf16}}) {
    for (const bool accumulate : {false, true}) {
      for (const auto device : devices()) {
        const auto left = a.to(types.a).to(device), right = b.to(types.b).to(device);
        auto got = c.to(types.c).to(device), want = got.clone();
        multiply(left, right, got, accumulate);
        multiply_reference(left, right, want, accumulate);
        const double tolerance = types.c == at::kDouble  ? 1e-13
                                 : types.c == at::kFloat ? 1e-6
                                                         : 1.0 / 128;
        expect_close(text(types.a, " ", types.b, " -> ", types.c, " on ", device),
                     got,
                     want,
                     {.relative = tolerance});
      }
    }
  }
}

TEST(Multiply, SeveralAtOnceAreTheSameAsOneByOne) {
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    std::vector<MatrixProduct> products;
    for (const int64_t rows : {1, 70, 3, 200}) {
      products.push_back({normal_tensor(text("a", rows), {rows, 600}).to(type),
                          normal_tensor(text("b", rows), {2000, 600}, at::kFloat).t(),
                          at::empty({rows, 2000}, type)});
    }
    multiply_each(products);
    for (const auto& [a, b, c] : products) {
      expect_bitwise_equal(text(type, " ", a.size(0), " rows"), c, multiplied(a, b));
    }
  }
}

// Packed once for all of them, also where it takes several pieces.
TEST(Multiply, NeighborsMayShareTheirRightOperand) {
  const auto b = normal_tensor("b", {20000, 70}, at::kFloat),
             other = normal_tensor("other", {20000, 70}, at::kFloat);
  std::vector<MatrixProduct> products;
  for (const auto& right : {b, b, other, b}) {
    products.push_back({normal_tensor(text("a", products.size()), {20000, 30}, at::kFloat).t(),
                        right,
                        at::empty({30, 70})});
  }
  multiply_each(products);
  for (const auto& [left, right, c] : products) {
    expect_bitwise_equal("product", c, multiplied(left, right));
  }
}

TEST(Multiply, DoesNotDependOnTheThreads) {
  const int before = at::get_num_threads();
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    const auto a = normal_tensor("a", {300, 1500}).to(type),
               b = normal_tensor("b", {1500, 130}).to(type);
    at::set_num_threads(1);
    const auto one = multiplied(a, b);
    at::set_num_threads(2);
    expect_bitwise_equal("two threads", multiplied(a, b), one);
  }
  at::set_num_threads(before);
}

// A right operand that is packed in two pieces, of which the second fits beside the first.
TEST(Multiply, PiecesOfOneSumDoNotRunAtOnce) {
  const int before = at::get_num_threads();
  const auto a = normal_tensor("a", {60, 5440}, at::kFloat),
             b = normal_tensor("b", {5440, 192}, at::kFloat);
  at::set_num_threads(1);
  const auto one = multiplied(a, b);
  at::set_num_threads(2);
  for (int i = 0; i < 50; ++i) {
    expect_bitwise_equal("two threads", multiplied(a, b), one);
  }
  at::set_num_threads(before);
}

TEST(Multiply, CarriesWhatIsNotANumber) {
  auto a = at::ones({8, 64});
  a[2][5] = std::nanf("");
  a[3][5] = INFINITY;
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    const auto c = multiplied(a.to(type), at::ones({64, 64})).to(at::kFloat);
    EXPECT_TRUE(c[2].isnan().all().item<bool>()) << type;
    EXPECT_TRUE(c[3].isinf().all().item<bool>()) << type;
    EXPECT_EQ(c[4].min().item<float>(), 64) << type;
  }
}

// Masters stay float32, as do their gradients.
TEST(LinearProduct, GivesFloat32GradientsToTheMastersOfBfloat16Products) {
  const auto x = normal_tensor("x", {70, 130}).to(at::kBFloat16).requires_grad_(true),
             w = normal_tensor("w", {50, 130}, at::kFloat).requires_grad_(true);
  const auto y = linear_product(x, w);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  const auto dy = normal_tensor("dy", {70, 50}).to(at::kBFloat16);
  y.backward(dy);
  EXPECT_EQ(w.grad().scalar_type(), at::kFloat);
  const auto exact = [](const at::Tensor& t) {
    return t.detach().to(at::kBFloat16).to(at::kDouble);
  };
  expect_close("dw", w.grad(), at::mm(exact(dy).t(), exact(x)), {.relative = 1e-6});
  expect_close("dx", x.grad(), at::mm(exact(dy), exact(w)), {.relative = 1.0 / 512});
}

TEST(LinearProduct, EqualsItsReference) {
  check_op("linear",
           {.fused = [](const auto& in) { return linear_product(in[0], in[1]); },
            .reference = [](const auto& in) { return at::linear(in[0], in[1]); },
            .inputs = {{normal_tensor("x", {3, 9, 33})}, {normal_tensor("w", {21, 33})}}});
}

TEST(LinearProduct, OfSeveralWeightsEqualsItsReference) {
  check_op("linears",
           {.fused =
                [](const auto& in) {
                  return at::cat(linear_products(in[0], {in[1], in[2], in[3]}), -1);
                },
            .reference =
                [](const auto& in) {
                  return at::linear(in[0], at::cat({in[1], in[2], in[3]}));
                },
            .inputs = {{normal_tensor("x", {3, 9, 33})},
                       {normal_tensor("u", {21, 33})},
                       {normal_tensor("v", {5, 33})},
                       {normal_tensor("w", {40, 33})}},
            .bfloat16 = 1.0 / 128});  // the input's gradient is rounded with every weight's share
}

// As where only one of them leads to the loss.
TEST(LinearProduct, TakesGradientsOfTheWeightsThatHaveOne) {
  const auto x = normal_tensor("x", {9, 33}).requires_grad_(true),
             used = normal_tensor("u", {21, 33}).requires_grad_(true),
             unused = normal_tensor("v", {5, 33}).requires_grad_(true);
  linear_products(x, {unused, used})[1].sum().backward();
  expect_close("dx", x.grad(), used.detach().sum(0).expand({9, 33}), {.relative = 1e-13});
  EXPECT_TRUE(used.grad().defined());
  EXPECT_FALSE(unused.grad().defined() && unused.grad().count_nonzero().item<int64_t>() > 0);
}

TEST(Multiply, RefusesShapesThatDoNotFit) {
  auto c = at::empty({2, 4});
  const auto message = error_of([&] { multiply(at::ones({2, 3}), at::ones({2, 4}), c); });
  EXPECT_TRUE(message.starts_with("[multiply] ")) << message;
  auto wide = at::empty({2, 4}, at::kDouble);
  EXPECT_EQ(error_of([&] {
              multiply(at::ones({2, 3}), at::ones({3, 4}), wide);
            }),
            "[multiply] types do not fit: Float Float -> Double; expected one type, or float32 and "
            "bfloat16");
}

}  // namespace
}  // namespace braid
