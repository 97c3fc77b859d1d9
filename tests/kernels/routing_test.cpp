#include "kernels/routing.h"

#include <limits>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/kernels/check_op.h"
#include "tests/support/compare.h"
#include "tests/support/devices.h"
#include "tests/support/gradcheck.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using testing::check_op;
using testing::expect_close;
using testing::normal_tensor;
using testing::wide;

struct RoutingCase {
  const char* name;
  int64_t T, E, K;
};

std::vector<RoutingCase> cases() {
  return {{"small", 9, 4, 2}, {"all of them", 5, 3, 3}, {"odd sizes", 50, 37, 6}};
}

at::Tensor logits_of(const RoutingCase& c) {
  return 3 * normal_tensor(text(c.name, " logits"), {c.T, c.E});
}

ExpertChoice learned(const RoutingCase& c) {
  return {.picks = c.K, .bias_E = normal_tensor(text(c.name, " bias"), {c.E})};
}

ExpertChoice given(const RoutingCase& c) {
  return {
      .given_TK =
          normal_tensor(text(c.name, " order"), {c.T, c.E}).argsort(int64_t{-1}).narrow(1, 0, c.K)};
}

ExpertChoice on(at::Device device, const ExpertChoice& choice) {
  const auto moved = [&](const at::Tensor& t) { return t.defined() ? t.to(device) : t; };
  return {choice.picks, moved(choice.bias_E), moved(choice.given_TK)};
}

TEST(Route, EqualsItsReference) {
  for (const auto& c : cases()) {
    for (const auto& choice : {learned(c), given(c)}) {
      const auto name = text("route ", c.name, choice.given_TK.defined() ? ", given" : ", learned");
      for (const bool weights : {true, false}) {
        const auto bound = [&](decltype(route)* f) {
          return [=](const std::vector<at::Tensor>& in) {
            const auto routing = f(in[0], on(in[0].device(), choice), 1.5);
            return weights ? routing.weights_TK : routing.scores_TE;
          };
        };
        check_op(text(name, weights ? ": weights" : ": scores"),
                 {.fused = bound(route),
                  .reference = bound(route_reference),
                  .inputs = {wide(logits_of(c))},
                  .float32 = 2e-6});  // gradients are differences from a mean
      }
      const auto experts = route_reference(logits_of(c), choice, 1.5).experts_TK;
      for (const auto device : testing::devices()) {
        const auto routing = route(logits_of(c).to(device), on(device, choice), 1.5);
        EXPECT_TRUE(routing.experts_TK.cpu().equal(experts)) << name << " on " << device;
      }
    }
  }
}

// Weights and scores in one loss, as with a balance loss.
TEST(Route, AddsTheGradientsOfWeightsAndScores) {
  const auto c = cases()[2];
  testing::expect_gradients_match(
      [&](const std::vector<at::Tensor>& in) {
        const auto routing = route(in[0], learned(c), 1.5);
        return std::vector{routing.weights_TK, routing.scores_TE};
      },
      {logits_of(c)});
}

// s / s is 1: a gradient of it would be rounding.
TEST(Route, ToOneExpertHasAConstantWeight) {
  const RoutingCase c{"one", 7, 5, 1};
  for (const auto& choice : {learned(c), given(c)}) {
    for (const auto device : testing::devices()) {
      const auto logits = logits_of(c).to(device).requires_grad_(true);
      const auto routing = route(logits, on(device, choice), 1.5);
      EXPECT_FALSE(routing.weights_TK.requires_grad()) << device;
      expect_close("weights",
                   routing.weights_TK,
                   at::full_like(routing.weights_TK, 1.5),
                   {.relative = 1e-15});
      routing.scores_TE.sum().backward();
      const auto alone = logits_of(c).to(device).requires_grad_(true);
      route_reference(alone, on(device, choice), 1.5).scores_TE.sum().backward();
      expect_close("logits", logits.grad(), alone.grad(), {.relative = 1e-12});
    }
    EXPECT_FALSE(
        route_reference(logits_of(c).requires_grad_(true), choice, 1.5).weights_TK.requires_grad());
  }
}

TEST(Route, OfEqualSumsTakesTheLowerExperts) {
  for (const int64_t E : {4, 37}) {
    const ExpertChoice choice{.picks = 3, .bias_E = at::zeros({E}, at::kDouble)};
    const auto none = route(at::zeros({2, E}, at::kDouble), choice, 1).experts_TK;
    EXPECT_TRUE(none.equal(at::tensor({0, 1, 2, 0, 1, 2}, at::kLong).view({2, 3})));
    auto logits = at::zeros({1, E}, at::kDouble);
    logits[0][1] = logits[0][3] = 1;
    EXPECT_TRUE(
        route(logits, choice, 1).experts_TK.equal(at::tensor({1, 3, 0}, at::kLong).view({1, 3})));
  }
}

TEST(Route, OfLogitsThatAreNotNumbersIsStillAChoice) {
  const auto logits = at::full({2, 5}, std::numeric_limits<double>::quiet_NaN(), at::kDouble);
  const auto routing = route(logits, {.picks = 2, .bias_E = at::zeros({5}, at::kDouble)}, 1);
  EXPECT_TRUE(routing.experts_TK.equal(at::tensor({0, 1, 0, 1}, at::kLong).view({2, 2})));
  EXPECT_TRUE(routing.weights_TK.isnan().all().item<bool>());
}

TEST(Route, KeepsItsPrecisionFarFromZero) {
  const auto logits = at::arange(-86.0, 100.0, 0.37, at::kDouble).unsqueeze(1);
  const ExpertChoice choice{.picks = 1, .bias_E = at::zeros({1}, at::kDouble)};
  const auto want = route_reference(logits.to(at::kFloat).to(at::kDouble), choice, 1).scores_TE;
  const auto got = route(logits.to(at::kFloat), choice, 1).scores_TE.to(at::kDouble);
  EXPECT_LT(((got - want) / want).abs().max().item<double>(), 3e-7);
}

TEST(Route, RefusesWhatDoesNotFit) {
  const auto c = cases()[0];
  const auto refuses = [](const at::Tensor& logits, const ExpertChoice& choice) {
    const auto message = testing::error_of([&] { route(logits, choice, 1); });
    EXPECT_TRUE(message.starts_with("[route] ")) << message;
  };
  refuses(logits_of(c), {.picks = 2, .bias_E = at::zeros({3}, at::kDouble)});
  refuses(logits_of(c), {.picks = 5, .bias_E = at::zeros({4}, at::kDouble)});
  refuses(logits_of(c), {.picks = 2});
  refuses(logits_of(c), {.given_TK = given(c).given_TK + 3});
  refuses(logits_of(c), {.given_TK = given(c).given_TK.narrow(0, 0, 2)});
}

}  // namespace
}  // namespace braid
