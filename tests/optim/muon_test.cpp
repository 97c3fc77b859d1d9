#include "optim/muon.h"

#include <cmath>
#include <limits>
#include <string>

#include <gtest/gtest.h>

#include "checkpoint/safetensors.h"
#include "tests/support/compare.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using testing::expect_close;
using testing::normal_tensor;

at::Tensor as_stack(const at::Tensor& tensor) {
  return tensor.dim() == 2 ? tensor.unsqueeze(0) : tensor;
}

class MuonGolden : public ::testing::TestWithParam<const char*> {};

// Made by an independent float64 implementation with learning rate 0.02 and weight decay 0.1.
TEST_P(MuonGolden, ThreeStepsGiveTheReferenceNumbers) {
  const std::string name = GetParam();
  const SafetensorsFile golden(std::string(BRAID_TEST_DATA) + "/muon.safetensors");
  const auto stored = [&](const std::string& what) {
    return as_stack(golden.tensor(name + "." + what));
  };
  // Singular values near 0 amplify rounding: the order of operations alone moves lowrank by 3e-12.
  const double tolerance = name == "lowrank" ? 1e-10 : 1e-12;
  const auto momentum = at::zeros_like(stored("W0"));
  auto value = stored("W0");
  for (const std::string step : {"1", "2", "3"}) {
    const auto update = muon_update(stored("G" + step), momentum, {});
    value = value * (1 - 0.02 * 0.1) - 0.02 * update;
    expect_close("M" + step, momentum, stored("M" + step), {.relative = 1e-12});
    expect_close("update" + step, update, stored("update" + step), {.relative = tolerance});
    expect_close("W" + step, value, stored("W" + step), {.relative = tolerance});
    const auto direction = stored("G" + step) + 0.95 * stored("M" + step);
    expect_close(
        "O" + step, newton_schulz(direction, {}), stored("O" + step), {.relative = tolerance});
  }
}

// Bounds of float32 from the reference's own float32 run; W and M are far better than O.
TEST_P(MuonGolden, Float32StaysClose) {
  const std::string name = GetParam();
  const SafetensorsFile golden(std::string(BRAID_TEST_DATA) + "/muon.safetensors");
  const auto direction = golden.tensor(name + ".G1") * 1.95;
  const double tolerance = name == "lowrank" ? 5e-3 : 1e-5;
  expect_close("O1",
               newton_schulz(as_stack(direction).to(at::kFloat), {}),
               as_stack(golden.tensor(name + ".O1")),
               {.absolute = tolerance});
}

INSTANTIATE_TEST_SUITE_P(
    Cases,
    MuonGolden,
    ::testing::Values("tall", "wide", "square", "lowrank", "experts", "experts_tall"));

TEST(Muon, UpdateRmsIs018ForEveryShape) {
  for (const auto& shape : {std::pair{64, 96}, {96, 64}, {64, 64}, {4, 512}}) {
    const auto grad = normal_tensor("gradient", {1, shape.first, shape.second}, at::kFloat);
    const auto update = muon_update(grad, at::zeros_like(grad), {});
    EXPECT_NEAR(update.pow(2).mean().sqrt().item<double>(), 0.18, 0.0018)
        << shape.first << "x" << shape.second;
  }
}

TEST(Muon, MatricesOfTheStackAreIndependent) {
  auto grad = normal_tensor("gradient", {5, 24, 40}, at::kFloat);
  grad[2].mul_(1e-6);  // an expert that few tokens visited
  const auto together = muon_update(grad, at::zeros_like(grad), {});
  for (int64_t i = 0; i < 5; ++i) {
    const auto alone = grad.slice(0, i, i + 1).clone();
    testing::expect_bitwise_equal("matrix " + std::to_string(i),
                                  together.slice(0, i, i + 1),
                                  muon_update(alone, at::zeros_like(alone), {}));
  }
}

TEST(Muon, ZeroGradientGivesZeroUpdate) {
  auto grad = normal_tensor("gradient", {2, 6, 4}, at::kFloat);
  grad[1].zero_();
  const auto update = muon_update(grad, at::zeros_like(grad), {});
  testing::expect_bitwise_equal("zero matrix", update[1], at::zeros({6, 4}, at::kFloat));
  EXPECT_GT(update[0].abs().min().item<float>(), 0);
}

TEST(Muon, RankOneGivesNormOne) {
  const auto x = normal_tensor("rows", {1, 8, 1}).matmul(normal_tensor("columns", {1, 1, 12}));
  EXPECT_NEAR(newton_schulz(x, {}).norm().item<double>(), 1, 1e-3);
}

TEST(Muon, TinyAndHugeGradientsKeepTheirDirection) {
  const auto grad = normal_tensor("gradient", {1, 16, 24}, at::kFloat);
  const auto want = newton_schulz(grad, {});
  for (const double scale : {1e-18, 1e-12, 1e30}) {
    expect_close("scaled gradient", newton_schulz(grad * scale, {}), want, {.relative = 1e-4});
  }
}

TEST(Muon, NonFiniteGradientsShow) {
  auto grad = normal_tensor("gradient", {1, 3, 4}, at::kFloat);
  grad[0][1][2] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(muon_update(grad, at::zeros_like(grad), {}).isnan().all().item<bool>());
}

TEST(Muon, RefusesOtherPrecisions) {
  EXPECT_THROW(newton_schulz(at::zeros({1, 2, 2}, at::kBFloat16), {}), Error);
  EXPECT_THROW(newton_schulz(at::zeros({2, 2}, at::kFloat), {}), Error);
}

}  // namespace
}  // namespace braid
