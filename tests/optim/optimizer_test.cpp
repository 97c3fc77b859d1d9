#include "optim/optimizer.h"

#include <cmath>

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "optim/adamw.h"
#include "optim/muon.h"
#include "tests/support/compare.h"
#include "tests/support/devices.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using testing::expect_bitwise_equal;
using testing::expect_close;
using testing::normal_tensor;

const GroupingFacts kFacts = {
    .num_heads = 4, .num_output_groups = 2, .trained = TrainedParts::all()};

struct Shape {
  std::string name;
  std::vector<int64_t> sizes;
};

// One parameter of every kind of split, two layers of it, and AdamW's.
std::vector<Shape> small_model() {
  std::vector<Shape> result = {{"embed.weight", {20, 16}}, {"norm.weight", {16}}};
  for (const std::string layer : {"layers.0.", "layers.1."}) {
    result.push_back({layer + "attn.wq_b.weight", {32, 16}});
    result.push_back({layer + "attn.wo_a.weight", {16, 24}});
    result.push_back({layer + "attn.compressor.wkv.weight", {16, 24}});
    result.push_back({layer + "attn.compressor.norm.weight", {8}});
    result.push_back({layer + "ffn.experts.*.w1.weight", {3, 8, 16}});
    result.push_back({layer + "ffn.experts.*.w2.weight", {3, 16, 8}});
    result.push_back({layer + "hc_attn_fn", {8, 24}});
    result.push_back({layer + "hc_attn_scale", {3}});
  }
  return result;
}

std::vector<NamedTensor> parameters_of(const std::vector<Shape>& shapes, at::ScalarType type) {
  std::vector<NamedTensor> result;
  for (const auto& [name, sizes] : shapes) {
    result.push_back({name, normal_tensor(name, sizes, type).requires_grad_(true)});
  }
  return result;
}

void set_gradients(const std::vector<NamedTensor>& parameters, const std::string& seed) {
  for (const auto& [name, value] : parameters) {
    at::Tensor(value).mutable_grad() =
        normal_tensor(seed + name, value.sizes(), value.scalar_type());
  }
}

Optimizer optimizer_of(const std::vector<NamedTensor>& parameters,
                       const OptimizerConfig& config = {}) {
  return Optimizer(config, group_parameters(parameters, kFacts, config));
}

// What a step must do, one matrix at a time.
TEST(Optimizer, UpdatesEveryMatrixOfEverySplitOnItsOwn) {
  const OptimizerConfig config{.weight_decay = 0.25, .query_split = QuerySplit::kPerHead};
  const auto parameters = parameters_of(small_model(), at::kDouble);
  const auto before = parameters_of(small_model(), at::kDouble);
  set_gradients(parameters, "gradient");
  auto optimizer = optimizer_of(parameters, config);
  optimizer.step(0.1);
  const at::NoGradGuard no_grad;
  std::size_t num_matrices = 0;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto& grouped = optimizer.parameters()[i];
    const auto& [name, value] = parameters[i];
    const auto old_value = before[i].value.detach();
    if (grouped.optimizer == OptimizerKind::kAdamW) {
      const auto m = at::zeros_like(old_value), v = at::zeros_like(old_value);
      adamw_update_reference({{old_value, value.grad(), m, v, {1, 0.1, 0.25}}}, {});
      expect_close(name, value, old_value, {.relative = 1e-14});
      continue;
    }
    const auto values = matrices_of(grouped, value.detach());
    const auto old_values = matrices_of(grouped, old_value);
    const auto gradients = matrices_of(grouped, value.grad());
    for (int64_t b = 0; b < values.size(0); ++b, ++num_matrices) {
      const auto update = (old_values[b] * (1 - 0.1 * 0.25) - values[b]) / 0.1;
      const auto gradient = gradients.slice(0, b, b + 1);
      const auto zeros = [&] { return at::zeros_like(gradient); };
      const MuonStack want{zeros(), gradient, zeros(), /*learning_rate=*/1};
      muon_step_reference(want, 1, {});
      expect_close(name, update, -want.value_Brc[0], {.relative = 1e-11});
      // Orthogonal: the update is 0.18 sqrt(max(r, c)) times a matrix whose singular values are 1.
      const int64_t rows = update.size(0), cols = update.size(1);
      const auto o = update / (0.18 * std::sqrt(static_cast<double>(std::max(rows, cols))));
      const auto gram = rows < cols ? o.matmul(o.t()) : o.t().matmul(o);
      expect_close(
          name + " gram", gram, at::eye(std::min(rows, cols), at::kDouble), {.absolute = 2e-3});
    }
  }
  EXPECT_EQ(num_matrices, 2u * (4 + 2 + 2 + 3 + 3 + 1));
}

TEST(Optimizer, NamesTheFirstTensorThatAnUpdateMadeNotFinite) {
  const auto parameters = parameters_of(small_model(), at::kFloat);
  set_gradients(parameters, "gradient");
  auto optimizer = optimizer_of(parameters);
  optimizer.step(0.1);
  EXPECT_EQ(optimizer.first_not_finite(), "");
  const auto spoil = [&](const std::string& name, int64_t index) {
    for (const auto& [found, value] : parameters) {
      if (found == name) {
        value.detach().view(-1)[index] = std::nanf("");
      }
    }
  };
  for (const auto& piece : optimizer.state()) {
    if (piece.name == "norm.weight/exp_avg_sq") {
      at::Tensor(piece.value).view(-1)[3] = INFINITY;
    }
  }
  EXPECT_EQ(optimizer.first_not_finite(), "norm.weight/exp_avg_sq");
  spoil("layers.1.ffn.experts.*.w2.weight", 2 * 16 * 8 + 5);
  EXPECT_EQ(optimizer.first_not_finite(), "layers.1.ffn.experts.2.w2.weight");
}

TEST(Optimizer, StepsAreTheSameOnEveryDevice) {
  const auto want = parameters_of(small_model(), at::kDouble);
  auto reference = optimizer_of(want);
  for (const std::string seed : {"first", "second"}) {
    set_gradients(want, seed);
    reference.step(0.1);
  }
  for (const auto device : testing::devices()) {
    auto parameters = parameters_of(small_model(), at::kDouble);
    for (auto& [name, value] : parameters) {
      value = value.detach().to(device).requires_grad_(true);
    }
    auto optimizer = optimizer_of(parameters);
    for (const std::string seed : {"first", "second"}) {
      for (const auto& [name, value] : parameters) {
        at::Tensor(value).mutable_grad() = normal_tensor(seed + name, value.sizes()).to(device);
      }
      optimizer.step(0.1);
    }
    for (std::size_t i = 0; i < want.size(); ++i) {
      expect_close(text(want[i].name, " on ", device),
                   parameters[i].value,
                   want[i].value,
                   {.relative = 1e-11});
    }
  }
}

TEST(Optimizer, AGradientsFactorIsAsIfGradientsWereScaled) {
  const auto parameters = parameters_of(small_model(), at::kDouble);
  const auto scaled = parameters_of(small_model(), at::kDouble);
  auto optimizer = optimizer_of(parameters), reference = optimizer_of(scaled);
  for (const std::string seed : {"first", "second"}) {
    set_gradients(parameters, seed);
    set_gradients(scaled, seed);
    for (const auto& [name, value] : scaled) {
      value.grad().mul_(0.3);
    }
    optimizer.step(0.1, TrainedParts::all(), 0.3);
    reference.step(0.1);
  }
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    expect_close(parameters[i].name, parameters[i].value, scaled[i].value, {.relative = 1e-12});
  }
}

TEST(Optimizer, AStackOfExpertsIsEachExpertAlone) {
  const auto stacked =
      parameters_of({{"layers.0.ffn.experts.*.w1.weight", {3, 8, 16}}}, at::kFloat);
  set_gradients(stacked, "gradient");
  stacked[0].value.grad()[1].mul_(1e-3);
  std::vector<at::Tensor> alone;
  for (int64_t expert = 0; expert < 3; ++expert) {
    auto value = stacked[0].value.detach()[expert].clone().requires_grad_(true);
    value.mutable_grad() = stacked[0].value.grad()[expert].clone();
    optimizer_of({{name_in_stack(stacked[0].name, expert), value}}).step(0.1);
    alone.push_back(value.detach());
  }
  optimizer_of(stacked).step(0.1);
  expect_bitwise_equal("experts", stacked[0].value, at::stack(alone));
}

TEST(Optimizer, StateRoundTripContinuesBitForBit) {
  const auto first_parameters = parameters_of(small_model(), at::kFloat);
  const auto second_parameters = parameters_of(small_model(), at::kFloat);
  auto first = optimizer_of(first_parameters), second = optimizer_of(second_parameters);
  for (const std::string seed : {"a", "b", "c"}) {
    set_gradients(first_parameters, seed);
    first.step(0.01);
  }
  set_gradients(second_parameters, "d");
  second.step(0.02);
  EXPECT_NE(first.steps(), second.steps());

  const auto from = first.state(), to = second.state();
  ASSERT_EQ(from.size(), to.size());
  for (std::size_t i = 0; i < from.size(); ++i) {
    ASSERT_EQ(from[i].name, to[i].name);
    EXPECT_FALSE(from[i].value.equal(to[i].value))
        << from[i].name << " does not tell the two apart";
    at::Tensor(to[i].value).copy_(from[i].value);
  }
  second.set_steps(first.steps());
  for (std::size_t i = 0; i < first_parameters.size(); ++i) {
    const at::NoGradGuard no_grad;
    at::Tensor(second_parameters[i].value).copy_(first_parameters[i].value);
  }
  for (const std::string seed : {"e", "f"}) {
    set_gradients(first_parameters, seed);
    set_gradients(second_parameters, seed);
    first.step(0.01);
    second.step(0.01);
  }
  for (std::size_t i = 0; i < first_parameters.size(); ++i) {
    expect_bitwise_equal(
        first_parameters[i].name, second_parameters[i].value, first_parameters[i].value);
  }
}

TEST(Optimizer, NamesItsStateAfterTheParameters) {
  const auto state = optimizer_of(parameters_of({{"norm.weight", {16}},
                                                 {"layers.0.ffn.experts.*.w1.weight", {3, 8, 16}}},
                                                at::kDouble))
                         .state();
  ASSERT_EQ(state.size(), 5u);
  EXPECT_EQ(state[0].name, "layers.0.ffn.experts.0.w1.weight/momentum");
  EXPECT_EQ(state[2].name, "layers.0.ffn.experts.2.w1.weight/momentum");
  EXPECT_EQ(state[0].value.sizes(), (at::IntArrayRef{8, 16}));
  EXPECT_EQ(state[0].value.scalar_type(), at::kDouble);
  EXPECT_TRUE(state[0].is_whole());
  EXPECT_EQ(state[3].name, "norm.weight/exp_avg");
  EXPECT_EQ(state[4].name, "norm.weight/exp_avg_sq");
}

void set_zero_gradients(const std::vector<NamedTensor>& parameters) {
  for (const auto& [name, value] : parameters) {
    at::Tensor(value).mutable_grad() = at::zeros_like(value.detach());
  }
}

TEST(Optimizer, AParameterWithoutAGradientTakesNoStep) {
  const auto parameters = parameters_of(small_model(), at::kFloat);
  auto optimizer = optimizer_of(parameters, {.weight_decay = 0.5});
  set_gradients(parameters, "gradient");
  optimizer.step(0.1);
  const auto without = [](const std::string& name) {
    return name.starts_with("layers.0.") || name.starts_with("norm.weight");
  };
  std::vector<at::Tensor> values;
  for (const auto& [name, value] : parameters) {
    values.push_back(value.detach().clone());
    if (without(name)) {
      at::Tensor(value).mutable_grad().reset();
    }
  }
  std::vector<at::Tensor> states;
  for (const auto& piece : optimizer.state()) {
    states.push_back(piece.value.clone());
  }
  optimizer.step(0.1);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    EXPECT_EQ(parameters[i].value.equal(values[i]), without(parameters[i].name))
        << parameters[i].name;
  }
  const auto after = optimizer.state();
  for (std::size_t i = 0; i < after.size(); ++i) {
    EXPECT_EQ(after[i].value.equal(states[i]), without(after[i].name)) << after[i].name;
  }
}

TEST(Optimizer, AGradientOfZerosIsOne) {
  const auto parameters = parameters_of(small_model(), at::kFloat);
  auto optimizer = optimizer_of(parameters);
  set_gradients(parameters, "gradient");
  optimizer.step(0.1);
  set_zero_gradients(parameters);
  std::vector<at::Tensor> values;
  for (const auto& [name, value] : parameters) {
    values.push_back(value.detach().clone());
  }
  optimizer.step(0.1);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    EXPECT_FALSE(parameters[i].value.equal(values[i])) << parameters[i].name;
  }
}

// Steps of one expert's weight in a layer of three, of which only expert 0 gets tokens after the
// tenth step; experts 1 and 2 got as many until then.
std::vector<double> sizes_of_idle_steps(bool damped) {
  const std::vector<Shape> shapes = {{"layers.0.ffn.gate.weight", {3, 16}},
                                     {"layers.0.ffn.experts.*.w1.weight", {3, 8, 16}}};
  const auto parameters = parameters_of(shapes, at::kDouble);
  const OptimizerConfig config{.weight_decay = 0, .muon = {.idle_expert_damping = damped}};
  auto optimizer = optimizer_of(parameters, config);
  const auto& experts = parameters[1].value;
  std::vector<double> sizes;
  for (int step = 0; step < 110; ++step) {
    set_gradients(parameters, text("step ", step));
    const double tokens = step < 10 ? 8 : 0;
    if (step >= 10) {
      experts.grad().slice(0, 1, 3).zero_();
    }
    const auto before = experts.detach().clone();
    optimizer.received({at::tensor({8.0, tokens, tokens}, at::kDouble)});
    optimizer.step(0.1);
    const auto update = experts.detach() - before;
    EXPECT_NEAR(update[0].norm().item<double>(), 0.1 * 0.18 * std::sqrt(16.0 * 8), 1e-4) << step;
    sizes.push_back(update[1].norm().item<double>());
  }
  return sizes;
}

TEST(Optimizer, AnExpertWithoutTokensTakesStepsOfFullSizeUnlessDamped) {
  const auto plain = sizes_of_idle_steps(false), damped = sizes_of_idle_steps(true);
  EXPECT_NEAR(plain[109], plain[5], 1e-4 * plain[5]);  // a hundred steps after its last token
  for (int step = 0; step < 10; ++step) {
    EXPECT_NEAR(damped[step], plain[step], 1e-12) << step;
  }
  EXPECT_LT(damped[109], 0.1 * plain[109]);
  for (int step = 70; step < 110; ++step) {
    EXPECT_LT(damped[step], damped[step - 1]) << step;
  }
}

TEST(Optimizer, FrozenParametersKeepTheirBits) {
  const auto parameters = parameters_of(small_model(), at::kFloat);
  const auto before = parameters_of(small_model(), at::kFloat);
  set_gradients(parameters, "gradient");
  const OptimizerConfig config{.groups = {{"layers.0.*", OptimizerKind::kNone, 1, {}}}};
  auto optimizer = optimizer_of(parameters, config);
  optimizer.step(0.1);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const bool is_frozen = parameters[i].name.starts_with("layers.0.");
    EXPECT_EQ(parameters[i].value.equal(before[i].value), is_frozen) << parameters[i].name;
  }
  for (const auto& piece : optimizer.state()) {
    EXPECT_FALSE(piece.name.starts_with("layers.0.")) << piece.name;
  }
}

TEST(Optimizer, LearningRateScaleAndDecayArePerGroup) {
  const auto parameters =
      parameters_of({{"norm.weight", {4}}, {"head.weight", {3, 4}}}, at::kDouble);
  const auto before = parameters_of({{"norm.weight", {4}}, {"head.weight", {3, 4}}}, at::kDouble);
  const OptimizerConfig config{.weight_decay = 0.5,
                               .groups = {{"head.weight", OptimizerKind::kAdamW, 3, 0.0},
                                          {"norm.*", OptimizerKind::kAdamW, 2, {}}}};
  set_zero_gradients(parameters);  // only the decay is left
  optimizer_of(parameters, config).step(0.1);
  expect_close("norm", parameters[0].value, before[0].value * (1 - 0.2 * 0.5), {.relative = 1e-15});
  expect_bitwise_equal("head", parameters[1].value, before[1].value);
}

TEST(Optimizer, TwoRunsGiveTheSameBits) {
  const auto first = parameters_of(small_model(), at::kFloat),
             second = parameters_of(small_model(), at::kFloat);
  auto first_optimizer = optimizer_of(first), second_optimizer = optimizer_of(second);
  for (const std::string seed : {"a", "b", "c"}) {
    set_gradients(first, seed);
    set_gradients(second, seed);
    first_optimizer.step(0.1);
    second_optimizer.step(0.1);
  }
  for (std::size_t i = 0; i < first.size(); ++i) {
    expect_bitwise_equal(first[i].name, first[i].value, second[i].value);
  }
}

TEST(Optimizer, RefusesLowPrecisionParameters) {
  EXPECT_THROW(optimizer_of({{"norm.weight", at::zeros({4}, at::kBFloat16)}}), Error);
  EXPECT_THROW(optimizer_of({{"head.weight", at::zeros({4, 6}).t()}}), Error);
}

}  // namespace
}  // namespace braid
