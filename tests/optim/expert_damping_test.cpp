#include "optim/expert_damping.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

constexpr double kMomentum = 0.9;

std::vector<GroupedParameter> layers() {
  std::vector<GroupedParameter> result;
  for (const std::string block : {"layers.0.", "layers.1.", "mtp.0."}) {
    result.push_back({.parameter = {block + "ffn.experts.*.w1.weight", at::zeros({3, 2, 2})}});
    result.push_back({.parameter = {block + "ffn.gate.weight", at::zeros({3, 2})}});
  }
  return result;
}

std::vector<at::Tensor> loads(double tokens_of_expert_1) {
  const auto load = at::tensor({4.0, tokens_of_expert_1, 0.0}, at::kDouble);
  return {at::full({3}, 4.0, at::kDouble), load, load};
}

const std::string kBusy = "layers.1.ffn.experts.0.w2.weight",
                  kIdle = "mtp.0.ffn.experts.1.w1.weight",
                  kNever = "layers.1.ffn.experts.2.w3.weight";

TEST(ExpertDamping, IsTheTokensOfLateOverThoseOfBefore) {
  ExpertDamping damping(layers(), kMomentum);
  const int steady = 2000, idle = 30;
  for (int step = 0; step < steady; ++step) {
    damping.received(loads(4));
    EXPECT_EQ(damping.factor(kIdle), 1) << step;
  }
  for (int step = 0; step < idle; ++step) {
    damping.received(loads(0));
  }
  EXPECT_NEAR(damping.factor(kIdle), std::pow(0.9 / 0.99, idle), 1e-8);
  EXPECT_EQ(damping.factor(kBusy), 1);
  EXPECT_EQ(damping.factor("layers.0.ffn.experts.1.w1.weight"), 1);
  EXPECT_EQ(damping.factor(kNever), 0);
  damping.received(loads(40));
  EXPECT_EQ(damping.factor(kIdle), 1);
}

TEST(ExpertDamping, ContinuesFromItsState) {
  ExpertDamping first(layers(), kMomentum), second(layers(), kMomentum);
  for (const double tokens : {4.0, 7.0, 0.0, 1.0, 0.0, 0.0}) {
    first.received(loads(tokens));
  }
  const auto from = first.state(), to = second.state();
  ASSERT_EQ(from.size(), 3u);
  EXPECT_EQ(from[2].name, "mtp.0.ffn.gate.weight/received");
  for (std::size_t i = 0; i < from.size(); ++i) {
    at::Tensor(to[i].value).copy_(from[i].value);
  }
  for (int step = 0; step < 40; ++step) {
    first.received(loads(0));
    second.received(loads(0));
    EXPECT_EQ(first.factor(kIdle), second.factor(kIdle)) << step;
  }
  EXPECT_LT(first.factor(kIdle), 0.5);
}

TEST(ExpertDamping, RefusesLoadsOfAnotherModel) {
  ExpertDamping damping(layers(), kMomentum);
  EXPECT_THROW(damping.received({at::zeros({3}, at::kDouble)}), Error);
  EXPECT_THROW(damping.received(std::vector(3, at::zeros({2}, at::kDouble))), Error);
  EXPECT_THROW(damping.factor("layers.7.ffn.experts.0.w1.weight"), Error);
}

}  // namespace
}  // namespace braid
