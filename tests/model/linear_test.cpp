#include "model/linear.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/codec.h"
#include "model/parameters.h"
#include "tests/support/compare.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using testing::expect_bitwise_equal;
using testing::normal_tensor;

// Adds x W^T of a second matrix, group by group where the matrix has groups.
class SecondMatrix : public Adapter {
 public:
  explicit SecondMatrix(at::Tensor weight) : weight_(std::move(weight)) {}
  at::Tensor forward(const at::Tensor& x) const override { return project(x, weight_); }
  at::Tensor forward_grouped(const at::Tensor& x_TGI) const override {
    return grouped_project(x_TGI, weight_);
  }
  at::Tensor delta() const override { return weight_; }

 private:
  at::Tensor weight_;
};

at::Tensor random(const std::string& name, at::IntArrayRef sizes) {
  return normal_tensor(name, sizes, at::kDouble);
}

// A matrix W and the same with W2 beside it.
struct Pair {
  at::Tensor w, w2;
  Linear plain, adapted;
  Pair(const std::string& name, int64_t out, int64_t in)
      : w(random(name, {out, in})),
        w2(random(name + " 2", {out, in})),
        plain(Weight(w)),
        adapted(Weight(w)) {
    adapted.set_adapter(std::make_shared<SecondMatrix>(w2));
  }
};

TEST(Linear, AddsWhatItsAdapterGives) {
  const Pair a("a", 6, 8);
  const auto x = random("x", {2, 3, 8});
  expect_bitwise_equal("plain", a.plain.forward(x), project(x, a.w));
  expect_bitwise_equal("adapted", a.adapted.forward(x), project(x, a.w) + project(x, a.w2));
}

TEST(Linear, ValuesHoldIt) {
  const Pair a("a", 6, 8);
  expect_bitwise_equal("plain", a.plain.values(), a.w);
  expect_bitwise_equal("adapted", a.adapted.values(), a.w + a.w2);
}

TEST(Linear, AddsItInGroupsToo) {
  const Pair a("a", 6, 4);
  const auto x_TGI = random("x", {5, 2, 4});
  expect_bitwise_equal("plain", a.plain.forward_grouped(x_TGI), grouped_project(x_TGI, a.w));
  expect_bitwise_equal("adapted",
                       a.adapted.forward_grouped(x_TGI),
                       grouped_project(x_TGI, a.w) + grouped_project(x_TGI, a.w2));
}

TEST(Linear, SeveralOfOneInputAddEachItsOwn) {
  const Pair a("a", 6, 8), b("b", 3, 8);
  const auto x = random("x", {5, 8});
  const auto each = forward_each(x, {a.plain, b.adapted});
  expect_bitwise_equal("plain", each[0], project(x, a.w));
  expect_bitwise_equal("adapted", each[1], project(x, b.w) + project(x, b.w2));
  expect_bitwise_equal(
      "joined, plain", forward_joined(x, {a.plain, b.plain}), project(x, at::cat({a.w, b.w})));
  EXPECT_LT(testing::relative_error(forward_joined(x, {a.plain, b.adapted}), at::cat(each, -1)),
            1e-14);
}

TEST(Linear, OfCodesCannotBeJoined) {
  const auto codes = encode_fp4(at::randn({4, 32}));
  const Linear frozen(Weight(codes.values, codes.scales)), floating(Weight(at::randn({4, 32})));
  EXPECT_THROW(forward_joined(at::randn({2, 32}), {floating, frozen}), Error);
}

TEST(Linear, IsDeclaredUnderItsReleaseName) {
  Parameters parameters(at::kDouble, 1, 0.02);
  const Scope scope(parameters, "layers.0.attn");
  const auto linear = scope.linear("wq_a.weight", {4, 8});
  ASSERT_EQ(parameters.all().size(), 1u);
  EXPECT_EQ(parameters.all()[0].name, "layers.0.attn.wq_a.weight");
  EXPECT_TRUE(linear.weight().values.is_same(parameters.all()[0].value));
  EXPECT_EQ(linear.adapter(), nullptr);
}

TEST(ExpertLinear, IsSplitIntoTheExpertsOfEachWave) {
  const auto stack = random("stack", {5, 2, 3});
  const auto parts = ExpertLinear(ExpertWeights(stack)).split({0, 2, 5});
  ASSERT_EQ(parts.size(), 2u);
  expect_bitwise_equal("first", parts[0].weights().stack(), stack.narrow(0, 0, 2));
  expect_bitwise_equal("second", parts[1].weights().stack(), stack.narrow(0, 2, 3));
}

}  // namespace
}  // namespace braid
