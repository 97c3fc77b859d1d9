#include "optim/muon.h"

#include <cmath>
#include <limits>
#include <string>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "checkpoint/safetensors.h"
#include "core/error.h"
#include "tests/support/compare.h"
#include "tests/support/devices.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using testing::expect_close;
using testing::normal_tensor;

at::Tensor as_stack(const at::Tensor& tensor) {
  return tensor.dim() == 2 ? tensor.unsqueeze(0) : tensor;
}

// The update alone: what a step at learning rate 1 takes from zeros.
at::Tensor muon_update(const at::Tensor& grad_Brc,
                       const at::Tensor& momentum_Brc,
                       const MuonConfig& config) {
  const auto value = at::zeros(grad_Brc.sizes(), grad_Brc.options());
  muon_step({{value, grad_Brc.contiguous(), momentum_Brc, /*learning_rate=*/1}}, 1, config);
  return 0 - value;  // zeros without a sign
}

class MuonGolden : public ::testing::TestWithParam<const char*> {};

// Made by an independent float64 implementation with learning rate 0.02 and weight decay 0.1.
TEST_P(MuonGolden, ThreeStepsGiveTheReferenceNumbers) {
  const std::string name = GetParam();
  const SafetensorsFile golden(BRAID_TEST_DATA "/muon.safetensors");
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
  const SafetensorsFile golden(BRAID_TEST_DATA "/muon.safetensors");
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

TEST(Muon, NonFiniteGradientsShow) {
  auto grad = normal_tensor("gradient", {1, 3, 4}, at::kFloat);
  grad[0][1][2] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(muon_update(grad, at::zeros_like(grad), {}).isnan().all().item<bool>());
}

// Sizes around those of the strips and blocks that the products are cut into.
TEST(Muon, AStepEqualsItsPlainTwin) {
  for (const auto& sizes :
       {std::vector<int64_t>{3, 70, 130}, {1, 130, 70}, {2, 32, 300}, {5, 5, 7}}) {
    for (const auto type : {at::kFloat, at::kDouble}) {
      const auto tensor = [&](const char* name) { return normal_tensor(name, sizes, type); };
      const MuonStack stack{tensor("W"), tensor("G"), tensor("M"), 0.1, 0.2};
      const MuonStack want{tensor("W"), tensor("G"), tensor("M"), 0.1, 0.2};
      muon_step({stack}, 0.25, {});
      muon_step_reference(want, 0.25, {});
      const double rounding = type == at::kFloat ? 2e-5 : 1e-12;
      expect_close("W", stack.value_Brc, want.value_Brc, {.absolute = rounding});
      expect_close("M", stack.momentum_Brc, want.momentum_Brc, {.relative = 1e-6});
    }
  }
}

TEST(Muon, AStepIsTheSameOnEveryDevice) {
  for (const auto& sizes : {std::vector<int64_t>{3, 7, 13}, {2, 13, 7}}) {
    const auto tensor = [&](const char* name) { return normal_tensor(name, sizes); };
    const MuonStack want{tensor("W"), tensor("G"), tensor("M"), 0.1, 0.2};
    muon_step_reference(want, 0.25, {});
    for (const auto device : testing::devices()) {
      const MuonStack stack{
          tensor("W").to(device), tensor("G").to(device), tensor("M").to(device), 0.1, 0.2};
      muon_step({stack}, 0.25, {});
      expect_close(text("W on ", device), stack.value_Brc, want.value_Brc, {.absolute = 1e-12});
      expect_close(
          text("M on ", device), stack.momentum_Brc, want.momentum_Brc, {.relative = 1e-14});
    }
  }
}

TEST(Muon, BitsDoNotDependOnThreadsOrNeighbors) {
  const auto grad = normal_tensor("gradient", {3, 70, 130}, at::kFloat);
  const int threads = at::get_num_threads();
  for (const auto& config : {MuonConfig{},
                             MuonConfig{.newton_schulz_gram = GramForm::kNever},
                             MuonConfig{.bfloat16_products = true}}) {
    std::vector<at::Tensor> updates;
    for (const int count : {1, 2, 4}) {
      at::set_num_threads(count);
      updates.push_back(muon_update(grad, at::zeros_like(grad), config));
    }
    at::set_num_threads(threads);
    testing::expect_bitwise_equal("two threads", updates[1], updates[0]);
    testing::expect_bitwise_equal("more threads than matrices", updates[2], updates[0]);
  }
}

}  // namespace
}  // namespace braid
