#include "kernels/rope.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/precision.h"
#include "tests/kernels/check_op.h"
#include "tests/support/compare.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using testing::check_op;
using testing::normal_tensor;

struct RopeCase {
  const char* name;
  std::vector<int64_t> x, rotation;
};

std::vector<RopeCase> cases() {
  return {{"one head", {2, 5, 12}, {2, 5, 2}},
          {"many heads", {2, 5, 3, 12}, {2, 5, 1, 2}},
          {"all channels rotate", {2, 3, 8}, {2, 3, 4}},
          {"one rotation per head", {2, 3, 4, 6}, {2, 3, 4, 1}},
          {"one token", {1, 1, 4}, {1, 1, 1}},
          {"odd passed channels", {1, 7, 5}, {1, 7, 1}},
          {"no token", {2, 0, 8}, {2, 0, 2}}};
}

// cos and sin of one angle, as a function of a name.
std::pair<at::Tensor, at::Tensor> rotation(const std::string& name, at::IntArrayRef shape) {
  const auto angle = 10 * normal_tensor(name, shape);
  return {angle.cos(), angle.sin()};
}

TEST(Rope, EqualsItsReferenceBothWays) {
  for (const auto& [name, x, shape] : cases()) {
    for (const bool inverse : {false, true}) {
      const auto [cos, sin] = rotation(name, shape);
      check_op(text("rope ", name, inverse ? " inverse" : ""),
               {.fused =
                    [&, c = cos, s = sin](const auto& in) {
                      const auto device = in[0].device();
                      return rope(in[0], c.to(device), s.to(device), inverse);
                    },
                .reference =
                    [&, c = cos, s = sin](const auto& in) {
                      const auto wide = in[0].options().dtype(wide_type(in[0]));
                      return rope_reference(in[0], c.to(wide), s.to(wide), inverse);
                    },
                .inputs = {{normal_tensor(name, x)}}});
    }
  }
}

TEST(Rope, RotatesNeighboringChannelsOfTheLastOnes) {
  const auto x = at::tensor({5.0, 6.0, 1.0, 0.0, 0.0, 2.0}, at::kDouble).view({1, 6});
  const auto cos = at::tensor({0.0, 0.6}, at::kDouble).view({1, 2});
  const auto sin = at::tensor({1.0, 0.8}, at::kDouble).view({1, 2});
  const auto want = at::tensor({5.0, 6.0, 0.0, 1.0, -1.6, 1.2}, at::kDouble).view({1, 6});
  testing::expect_close("rope", rope(x, cos, sin), want, {.absolute = 1e-15});
}

TEST(Rope, ThenInverseIsTheIdentity) {
  for (const auto& [name, shape, rotations] : cases()) {
    const auto x = normal_tensor(name, shape);
    const auto [cos, sin] = rotation(name, rotations);
    testing::expect_close(name, rope(rope(x, cos, sin), cos, sin, true), x, {.absolute = 1e-14});
  }
}

TEST(Rope, MakesProductsDependOnTheDistanceOnly) {
  const auto q = normal_tensor("q", {1, 8}), k = normal_tensor("k", {1, 8});
  const auto frequency = at::tensor({1.0, 0.3, 0.01}, at::kDouble);
  const auto product = [&](double q_position, double k_position) {
    const auto at = [&](const at::Tensor& x, double position) {
      const auto angle = (position * frequency).unsqueeze(0);
      return rope(x, angle.cos(), angle.sin());
    };
    return (at(q, q_position) * at(k, k_position)).sum().item<double>();
  };
  EXPECT_NEAR(product(17, 12), product(1017, 1012), 1e-11);
  EXPECT_NEAR(product(3, 3), (q * k).sum().item<double>(), 1e-13);
  EXPECT_GT(std::abs(product(17, 12) - product(17, 13)), 1e-3);
}

TEST(Rope, RefusesShapesThatDoNotFit) {
  const auto ones = [](at::IntArrayRef shape) { return at::ones(shape); };
  EXPECT_EQ(testing::error_of([&] {
              rope(ones({2, 3}), ones({2, 2}), ones({2, 2}));
            }),
            "[rope] x is [2, 3], cos [2, 2], sin [2, 2]");
  EXPECT_EQ(testing::error_of([&] {
              rope(ones({5, 4}), ones({3, 2}), ones({3, 2}));
            }),
            "[rope] 5 tokens but 3 rotations");
  EXPECT_NE(testing::error_of([&] { rope(ones({5, 4}), ones({5, 2}), ones({5, 1})); }), "");
}

}  // namespace
}  // namespace braid
