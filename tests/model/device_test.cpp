// The whole model on a device whose memory the CPU cannot touch, with the CPU's numbers.
#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "model/mtp.h"
#include "tests/model/support.h"
#include "tests/support/compare.h"
#include "tests/support/kernels_on_host.h"
#include "tests/support/strict_device.h"

namespace braid {
namespace {

using testing::DeviceUse;
using testing::relative_error;

constexpr int64_t kRows = 2, kTokens = 24;

// Two documents and padding in each row.
struct Batch {
  Tokens tokens;
  at::Tensor targets_BS;

  explicit Batch(const ModelConfig& config) {
    const auto ids_BS = testing::random_ids(kRows, kTokens, config.vocab_size);
    tokens = whole_documents(ids_BS);
    tokens.positions_BS = tokens.positions_BS.contiguous();
    targets_BS = ids_BS.roll(-1, 1).contiguous();
    const int64_t second = 10, padding = kTokens - 2;
    tokens.documents_BS.narrow(1, second, kTokens - second).fill_(1);
    tokens.positions_BS.narrow(1, second, kTokens - second).sub_(second);
    tokens.documents_BS.narrow(1, padding, 2).fill_(-1);
    targets_BS.narrow(1, padding, 2).fill_(-100);
  }
};

// All losses of a model, as one number with a gradient.
at::Tensor loss_of(const Transformer& model, const Batch& batch, const PassOptions& options) {
  Observations observations;
  const auto hidden = model.forward(batch.tokens, options, &observations);
  auto loss = model.cross_entropy_sum(hidden.final_BSD, batch.targets_BS);
  if (model.has_mtp()) {
    const auto mtp_BSD = model.mtp_forward(batch.tokens, hidden, options, &observations);
    const auto targets_BS = mtp_targets(batch.targets_BS, batch.tokens.documents_BS);
    loss = loss + 0.3 * model.cross_entropy_sum(mtp_BSD, targets_BS);
  }
  for (const auto& layer : observations.layers) {
    for (const auto& term : {layer.balance_sum, layer.indexer_kl_sum}) {
      loss = term.defined() ? loss + 0.5 * term : loss;
    }
  }
  return loss;
}

struct Results {
  double loss = 0;
  std::map<std::string, at::Tensor> gradients;  // float64, on the CPU
  DeviceUse use;
};

Results results_on(at::Device device,
                   const ModelConfig& config,
                   at::ScalarType type,
                   const PassOptions& options) {
  const auto model = testing::randomized(config, type, {}, device);
  const Batch batch(config);
  Results results;
  at::Tensor loss;
  results.use = testing::strict_device_use([&] {
    loss = loss_of(model, batch, options);
    loss.backward();
  });
  results.loss = loss.item<double>();
  for (const auto& parameter : model.parameters().all()) {
    if (const auto& gradient = parameter.value.grad(); gradient.defined()) {
      EXPECT_EQ(gradient.device(), device) << parameter.name;
      results.gradients[parameter.name] = gradient.cpu().to(at::kDouble);
    }
  }
  return results;
}

ModelConfig config_with_mtp() {
  auto config = testing::tiny_config();
  config.num_nextn_predict_layers = 1;
  config.compress_ratios.push_back(0);
  config.n_shared_experts = 1;
  return config;
}

// The waits that a GPU's host thread is allowed: one for the experts' row counts, in each pass
// through a MoE layer.
int64_t allowed_waits(const ModelConfig& config, const PassOptions& options) {
  const int64_t layers = config.num_hidden_layers + config.num_nextn_predict_layers;
  return options.recompute_sublayers > 0 ? 2 * layers : layers;
}

std::string waits_of(const DeviceUse& use) {
  std::string list;
  for (const auto& [operation, count] : use.waits) {
    list += text(operation, " ", count, "; ");
  }
  return list;
}

void expect_the_cpus_numbers(const std::string& name,
                             const ModelConfig& config,
                             const PassOptions& options) {
  SCOPED_TRACE(name);
  const auto want = results_on(at::kCPU, config, at::kDouble, options);
  const auto got = results_on(testing::strict_device(), config, at::kDouble, options);
  EXPECT_NEAR(got.loss, want.loss, 1e-12 * std::abs(want.loss));
  EXPECT_EQ(got.gradients.size(), want.gradients.size());
  for (const auto& [parameter, gradient] : want.gradients) {
    EXPECT_LT(relative_error(got.gradients.at(parameter), gradient), 1e-10) << parameter;
  }
  EXPECT_GT(got.use.number_of_operations(), 1000);
  EXPECT_LE(got.use.number_of_waits(), allowed_waits(config, options)) << waits_of(got.use);
}

const PassOptions kAllLosses = {.balance_loss = true, .indexer_loss = true};

TEST(ModelOnADevice, HasTheCpusNumbersForEveryKindOfLayer) {
  for (const auto& [name, layers] : testing::layer_mixes()) {
    expect_the_cpus_numbers(name, testing::tiny_config(layers), kAllLosses);
  }
}

TEST(ModelOnADevice, HasTheCpusNumbersForEveryResidual) {
  auto config = config_with_mtp();
  for (const auto& [name, kind] : {std::pair{"plain", ResidualKind::kPlain},
                                   std::pair{"hc", ResidualKind::kHc},
                                   std::pair{"mhc", ResidualKind::kMhc}}) {
    config.residual = kind;
    expect_the_cpus_numbers(name, config, kAllLosses);
  }
}

TEST(ModelOnADevice, HasTheCpusNumbersWhenItRecomputes) {
  auto options = kAllLosses;
  for (const int64_t sublayers : {1, 2, 3}) {
    options.recompute_sublayers = sublayers;
    expect_the_cpus_numbers(text(sublayers, " sublayers"), config_with_mtp(), options);
  }
}

TEST(ModelOnADevice, HasTheCpusNumbersWithDenseAttentionAndQuantizationAwareTraining) {
  auto options = kAllLosses;
  options.dense_attention = true;
  auto config = testing::tiny_config();
  expect_the_cpus_numbers("dense", config, options);
  config.hidden_size = config.moe_intermediate_size = config.index_head_dim = 32;
  config.qat_experts = config.qat_indexer = QuantFormat::kFp4;
  expect_the_cpus_numbers("qat", config, kAllLosses);
}

// || got - exact || / || exact || over all gradients.
double error_of_all(const Results& got, const Results& exact) {
  double error = 0, norm = 0;
  for (const auto& [name, gradient] : exact.gradients) {
    error += (got.gradients.at(name) - gradient).square().sum().item<double>();
    norm += gradient.square().sum().item<double>();
  }
  return std::sqrt(error / norm);
}

// Narrow types round elsewhere on a device: as far from float64 as the CPU's kernels are, whose own
// distance varies by half from one kind of processor to the next.
constexpr double kAsFar = 2;

TEST(ModelOnADevice, IsAsExactInNarrowTypesAsTheCpu) {
  const auto config = config_with_mtp();
  const auto exact = results_on(at::kCPU, config, at::kDouble, kAllLosses);
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    SCOPED_TRACE(type);
    const auto cpu = results_on(at::kCPU, config, type, kAllLosses),
               device = results_on(testing::strict_device(), config, type, kAllLosses);
    EXPECT_LT(error_of_all(device, exact), kAsFar * error_of_all(cpu, exact));
    EXPECT_LE(device.use.number_of_waits(), allowed_waits(config, kAllLosses));
  }
}

// The kernels of kernels/cuda, which the CPU runs in place of a GPU.
TEST(ModelOnADevice, IsAsExactWithItsOwnKernels) {
  auto config = config_with_mtp();
  config.moe_intermediate_size = 8;  // kernels take multiples of it
  const auto exact = results_on(at::kCPU, config, at::kDouble, kAllLosses);
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    SCOPED_TRACE(type);
    const auto cpu = results_on(at::kCPU, config, type, kAllLosses);
    const testing::KernelsOnHost kernels(/*order=*/2);
    const auto device = results_on(testing::strict_device(), config, type, kAllLosses);
    EXPECT_GT(kernels.launches(), 100);
    EXPECT_LT(error_of_all(device, exact), kAsFar * error_of_all(cpu, exact));
    // Products of bfloat16 rows with all experts at once know their numbers of rows.
    EXPECT_LE(device.use.number_of_waits(),
              type == at::kBFloat16 ? 0 : allowed_waits(config, kAllLosses))
        << waits_of(device.use);
  }
}

TEST(ModelOnADevice, ContinuesDocumentsAsOnTheCpu) {
  const at::NoGradGuard no_grad;
  const auto config = testing::tiny_config();
  const auto ids_BS = testing::random_ids(kRows, kTokens, config.vocab_size);
  const auto logits_on = [&](at::Device device) {
    const auto model = testing::randomized(config, at::kDouble, {}, device);
    DecodeState state;
    std::vector<at::Tensor> logits;
    for (const auto& part_BS : ids_BS.split_with_sizes({9, 1, 1, 13}, 1)) {
      logits.push_back(model.logits(model.forward(part_BS, state).final_BSD).cpu());
    }
    return at::cat(logits, 1);
  };
  testing::expect_close(
      "logits", logits_on(testing::strict_device()), logits_on(at::kCPU), {.relative = 1e-12});
}

// Whatever the number of passes: forward, again, and backward, of each micro-batch.
TEST(ModelOnADevice, RoundsAMasterOnceUntilItChanges) {
  const testing::KernelsOnHost kernels;
  const auto config = config_with_mtp();
  const auto model = testing::randomized(config, at::kBFloat16, {}, testing::strict_device());
  const Batch batch(config);
  auto options = kAllLosses;
  options.recompute_sublayers = 2;
  const auto casts_of_micro_batch = [&] {
    testing::clear_gradients(model);
    auto use = testing::strict_device_use([&] { loss_of(model, batch, options).backward(); });
    return use.operations["copy"];
  };
  const auto first = casts_of_micro_batch(), second = casts_of_micro_batch();
  EXPECT_EQ(casts_of_micro_batch(), second);
  int64_t rounded = 0;
  for (const auto& parameter : model.parameters().all()) {
    if (parameter.is_rounded) {
      ++rounded;
      parameter.value.detach().mul_(2);
    }
  }
  EXPECT_GT(rounded, 20);
  EXPECT_EQ(first - second, rounded);
  EXPECT_EQ(casts_of_micro_batch() - second, rounded);
}

// Those that no product rounds: norms, biases, tables, and what is read in float32.
TEST(ModelOnADevice, RoundsWhatProductsOfActivationsRead) {
  auto config = config_with_mtp();
  const auto rounded_of = [](const ModelConfig& of, const std::optional<LoraConfig>& lora) {
    const WithoutValues without_values;
    std::set<std::string> names;
    const Transformer model(of, at::kBFloat16, 0, nullptr, {}, at::kCPU, lora);
    for (const auto& parameter : model.parameters().all()) {
      if (parameter.is_rounded && !parameter.name.starts_with("layers.0.") &&
          !parameter.name.starts_with("layers.2.") && !parameter.name.starts_with("layers.3.")) {
        names.insert(parameter.name);
      }
    }
    return names;
  };
  std::set<std::string> want;
  const auto add = [&want](const std::string& block, const std::vector<const char*>& names) {
    for (const auto* name : names) {
      want.insert(block + name + ".weight");
    }
  };
  for (const auto* block : {"layers.1.", "mtp.0."}) {
    add(block, {"attn.wq_a", "attn.wq_b", "attn.wkv", "attn.wo_a", "attn.wo_b"});
    add(block, {"ffn.shared_experts.w1", "ffn.shared_experts.w2", "ffn.shared_experts.w3"});
  }
  add("layers.1.", {"attn.indexer.wq_b", "attn.indexer.weights_proj"});
  add("mtp.0.", {"e_proj", "h_proj"});
  const auto but_experts = want;
  for (const auto* block : {"layers.1.", "mtp.0."}) {
    add(block, {"ffn.experts.*.w1", "ffn.experts.*.w2", "ffn.experts.*.w3"});
  }
  EXPECT_EQ(rounded_of(config, {}), want);
  LoraConfig lora;
  lora.targets.items = {"layers.1.attn.wq_a.weight",
                        "layers.1.attn.compressor.wkv.weight",
                        "head.weight",
                        "embed.weight",
                        "layers.1.ffn.experts.*.w2.weight"};
  add("layers.1.", {"attn.wq_a.lora_A", "attn.wq_a.lora_B"});
  add("layers.1.", {"ffn.experts.*.w2.lora_A", "ffn.experts.*.w2.lora_B"});
  EXPECT_EQ(rounded_of(config, lora), want);
  config.hidden_size = config.moe_intermediate_size = 32;
  config.qat_experts = QuantFormat::kFp4;  // which rounds the experts otherwise
  EXPECT_EQ(rounded_of(config, {}), but_experts);
}

TEST(ModelOnADevice, HasTheParametersOfTheCpu) {
  const auto config = config_with_mtp();
  const Transformer on_cpu(config, at::kFloat, 5);
  const Transformer on_device(config, at::kFloat, 5, nullptr, {}, testing::strict_device());
  const auto want = on_cpu.parameters().tensors(), got = on_device.parameters().tensors();
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(got[i].value.device(), testing::strict_device());
    testing::expect_bitwise_equal(want[i].name, got[i].value.cpu(), want[i].value);
  }
}

}  // namespace
}  // namespace braid
