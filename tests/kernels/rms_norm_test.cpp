#include "kernels/rms_norm.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/kernels/check_op.h"
#include "tests/support/compare.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using testing::check_op;
using testing::normal_tensor;
using testing::wide;

constexpr double kEps = 1e-6;

std::vector<std::vector<int64_t>> shapes() {
  return {{2, 5, 24}, {3, 17}, {1, 1}, {1, 1, 7}, {40, 3}, {0, 8}, {16}};
}

// A single channel is normed to its sign but for eps: only a large one leaves a gradient to
// compare.
double eps_for(const std::vector<int64_t>& shape) {
  return shape.back() == 1 ? 0.5 : kEps;
}

TEST(RmsNorm, WithWeightEqualsItsReference) {
  for (const auto& shape : shapes()) {
    const auto name = text("rms_norm ", at::IntArrayRef(shape));
    const double eps = eps_for(shape);
    check_op(
        name,
        {.fused = [=](const auto& in) { return rms_norm(in[0], in[1], eps); },
         .reference = [=](const auto& in) { return rms_norm_reference(in[0], in[1], eps); },
         .inputs = {{normal_tensor(name, shape)}, wide(normal_tensor("weight", {shape.back()}))}});
  }
}

TEST(RmsNorm, WithoutWeightEqualsItsReference) {
  for (const auto& shape : shapes()) {
    const auto name = text("rms_norm ", at::IntArrayRef(shape));
    const double eps = eps_for(shape);
    check_op(name,
             {.fused = [=](const auto& in) { return rms_norm(in[0], {}, eps); },
              .reference = [=](const auto& in) { return rms_norm_reference(in[0], {}, eps); },
              .inputs = {{normal_tensor(name, shape)}}});
  }
}

// A block of a GPU has such a row, in one of several layouts, and more than one where there are
// more rows than parts of the weight's gradient. Sums have up to thousands of terms.
TEST(RmsNorm, WideRowsEqualTheReference) {
  for (const auto& shape : std::vector<std::vector<int64_t>>{
           {3, 264}, {2, 520}, {515, 1032}, {2, 2056}, {2, 4104}, {2, 301}}) {
    const auto name = text("rms_norm ", at::IntArrayRef(shape));
    check_op(
        name,
        {.fused = [](const auto& in) { return rms_norm(in[0], in[1], kEps); },
         .reference = [](const auto& in) { return rms_norm_reference(in[0], in[1], kEps); },
         .inputs = {{normal_tensor(name, shape)}, wide(normal_tensor("weight", {shape.back()}))},
         .float32 = 5e-6,
         .gradcheck = false});
  }
}

TEST(RmsNorm, GivesRowsOfUnitMeanSquare) {
  const auto y = rms_norm(100 * normal_tensor("x", {5, 33}), {}, kEps);
  testing::expect_close(
      "mean square", y.square().mean(-1), at::ones({5}, at::kDouble), {.absolute = 1e-9});
  EXPECT_EQ(rms_norm(at::zeros({2, 3}), {}, kEps).abs().max().item<float>(), 0);
}

TEST(RmsNorm, DoesNotDependOnTheNumberOfThreads) {
  testing::check_threads("rms_norm",
                         [](const auto& in) { return rms_norm(in[0], in[1], kEps); },
                         {{normal_tensor("x", {3000, 64})}, wide(normal_tensor("weight", {64}))});
}

TEST(RmsNorm, RefusesAWeightOfAnotherSize) {
  const auto message = testing::error_of([] { rms_norm(at::ones({2, 5}), at::ones({4}), kEps); });
  EXPECT_EQ(message, "[rms_norm] x has last dim 5 but weight is [4]");
}

}  // namespace
}  // namespace braid
