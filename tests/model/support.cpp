#include "tests/model/support.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "core/error.h"
#include "core/random.h"
#include "tests/support/normal_tensor.h"

namespace braid::testing {

ModelConfig tiny_config() {
  ModelConfig config;
  config.vocab_size = 23;
  config.hidden_size = 16;
  config.num_attention_heads = 4;
  config.head_dim = 8;
  config.qk_rope_head_dim = 4;
  config.q_lora_rank = 12;
  config.o_groups = 2;
  config.o_lora_rank = 6;
  config.sliding_window = 5;
  config.index_n_heads = 2;
  config.index_head_dim = 8;
  config.index_topk = 2;
  config.n_routed_experts = 4;
  config.num_experts_per_tok = 2;
  config.moe_intermediate_size = 6;
  config.num_hash_layers = 1;
  config.rope_scaling = {.factor = 16, .original_max_position_embeddings = 64};
  config.initializer_range = 0.3;
  config.num_hidden_layers = 4;
  config.compress_ratios = {0, 4, 6, 4};
  return config;
}

ModelConfig tiny_config(const std::vector<AttentionKind>& layers) {
  auto config = tiny_config();
  config.num_hidden_layers = static_cast<int64_t>(layers.size());
  config.layer_types = layers;
  config.compress_ratios.clear();
  for (const auto kind : layers) {
    config.compress_ratios.push_back(kind == AttentionKind::kCsa   ? 4
                                     : kind == AttentionKind::kHca ? 6
                                                                   : 0);
  }
  return config;
}

std::vector<NamedLayers> layer_mixes() {
  using enum AttentionKind;
  return {{"window", {kWindow, kWindow}},
          {"csa", {kCsa, kCsa}},
          {"hca", {kHca, kHca}},
          {"full", {kFull, kFull}},
          {"all", {kWindow, kCsa, kFull, kHca, kCsa}}};
}

Transformer randomized(const ModelConfig& config,
                       at::ScalarType compute,
                       const ModelRanks& ranks,
                       at::Device device,
                       const std::optional<LoraConfig>& lora) {
  at::set_num_threads(1);  // at these sizes a second thread only waits, and tests share the machine
  Transformer model(config, compute, /*seed=*/7, nullptr, ranks, device, lora);
  for (const auto& p : model.parameters().all()) {
    const auto& name = p.name;
    const auto& value = p.value;
    if (value.is_floating_point()) {
      const auto noise = normal_tensor("noise of " + name, value.sizes(), value.scalar_type());
      value.detach().add_(noise.to(device), 0.3);
    }
  }
  return model;
}

at::Tensor random_ids(int64_t B, int64_t S, int64_t vocab_size, int stream) {
  const auto ids = at::empty({B, S}, at::kLong);
  const uint64_t key = random_key(stream, "ids");
  for (int64_t i = 0; i < ids.numel(); ++i) {
    ids.data_ptr<int64_t>()[i] =
        static_cast<int64_t>(random_bits(key, i) % static_cast<uint64_t>(vocab_size));
  }
  return ids;
}

at::Tensor logits_of(const Transformer& model, const at::Tensor& ids_BS) {
  return model.logits(model.forward(whole_documents(ids_BS)).final_BSD);
}

at::Tensor parameter(const Transformer& model, const std::string& name) {
  for (const auto& each : model.parameters().all()) {
    if (each.name == name) {
      return each.value;
    }
  }
  fail("the model has no parameter ", name);
}

void clear_gradients(const Transformer& model) {
  for (const auto& each : model.parameters().all()) {
    each.value.mutable_grad().reset();
  }
}

}  // namespace braid::testing
