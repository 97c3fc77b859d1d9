#include "train/memory_plan.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <ATen/ATen.h>

#include "kernels/precision.h"

namespace braid {
namespace {

// Elements per token in the compute type and in the wide one.
struct Kept {
  double narrow = 0, wide = 0;

  Kept& operator+=(const Kept& other) {
    narrow += other.narrow;
    wide += other.wide;
    return *this;
  }
};

// `mixed`: the compute type is narrower than the wide one.
Kept kept_by_layer(const ModelConfig& config, const LayerConfig& layer, bool mixed) {
  const auto D = static_cast<double>(config.hidden_size),
             M = static_cast<double>(config.num_streams()),
             L = static_cast<double>(config.q_lora_rank), H = static_cast<double>(config.head_dim),
             NH = static_cast<double>(config.num_attention_heads) * H,
             GO = static_cast<double>(config.o_groups * config.o_lora_rank),
             K = static_cast<double>(config.num_experts_per_tok),
             E = static_cast<double>(config.n_routed_experts),
             F = static_cast<double>(config.moe_intermediate_size),
             shared = static_cast<double>(config.n_shared_experts);
  const double X = layer.attention == AttentionKind::kCsa   ? 2 * H
                   : layer.attention == AttentionKind::kHca ? H
                                                            : 0;
  Kept kept;
  kept.narrow = 2 * D + L + NH + GO + K * (D + 3 * F) + F * shared;
  kept.wide =
      2 * ((mixed ? 3 : 1) * M * D + 2 * D) + L + 3 * NH + 2 * H + 2 * X + 2 * F * shared + 6 * E;
  if (mixed) {
    kept.wide += layer.compresses() ? 3 * D : D;
  }
  return kept;
}

Kept kept_by_stream_head(const ModelConfig& config, bool mixed) {
  const auto D = static_cast<double>(config.hidden_size),
             M = static_cast<double>(config.num_streams());
  return {.narrow = D, .wide = (mixed ? 2 : 1) * M * D + D};
}

// Beside its layer: two norms and two projections, of the embedding and of the streams.
Kept kept_by_mtp(const ModelConfig& config, bool mixed) {
  const auto D = static_cast<double>(config.hidden_size),
             M = static_cast<double>(config.num_streams());
  Kept kept = {.narrow = D + M * D, .wide = D + (mixed ? M * D : 0)};
  kept += kept_by_layer(config, config.mtp_layer(), mixed);
  kept += kept_by_stream_head(config, mixed);
  return kept;
}

// Bytes per token of the masks that say who sees whom.
double mask_bytes(const ModelConfig& config, int64_t seq_len) {
  auto bytes = static_cast<double>(seq_len);
  std::set<int64_t> ratios;
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const auto layer = config.layer(i);
    if (layer.compresses()) {
      const int64_t entries = seq_len / layer.ratio;
      const bool selects = layer.attention == AttentionKind::kCsa && config.index_topk &&
                           *config.index_topk < entries;
      const int64_t masks = ratios.insert(layer.ratio).second + selects;
      bytes += static_cast<double>(masks * entries);
    }
  }
  return bytes;
}

// Of all layers, or with recomputation of one segment beside the streams of all.
Kept kept_by_layers(const ModelConfig& config, int64_t recompute_sublayers, bool mixed) {
  Kept all, largest;
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const auto layer = kept_by_layer(config, config.layer(i), mixed);
    all += layer;
    largest = layer.wide > largest.wide ? layer : largest;
  }
  if (recompute_sublayers == 0) {
    return all;
  }
  const auto sublayers = static_cast<double>(2 * config.num_hidden_layers),
             segment = std::min(static_cast<double>(recompute_sublayers), sublayers),
             streams = static_cast<double>(config.num_streams() * config.hidden_size);
  return {.narrow = largest.narrow * segment / 2,
          .wide = largest.wide * segment / 2 + std::ceil(sublayers / segment) * streams};
}

double activation_bytes(const RunConfig& config, const Regime& regime) {
  const auto& model = config.model;
  const auto type = scalar_type(config.train.dtype);
  const auto narrow_bytes = static_cast<double>(c10::elementSize(type)),
             wide_bytes = static_cast<double>(c10::elementSize(wide_type(type)));
  const bool mixed = narrow_bytes < wide_bytes;
  Kept kept = kept_by_stream_head(model, mixed);
  kept += kept_by_layers(model, regime.options.recompute_sublayers, mixed);
  if (model.num_nextn_predict_layers > 0) {
    kept += kept_by_mtp(model, mixed);
  }
  const double per_token =
      kept.narrow * narrow_bytes + kept.wide * wide_bytes + mask_bytes(model, regime.seq_len);
  const int64_t rows = std::min(config.train.micro_batch_size, regime.sequences);
  return per_token * static_cast<double>(rows * regime.seq_len);
}

}  // namespace

MemoryPlan planned_memory(const RunConfig& config,
                          const Parameters& parameters,
                          const std::vector<GroupedParameter>& groups,
                          const Regime& regime) {
  MemoryPlan memory;
  for (const auto& parameter : parameters.all()) {
    memory.weights_bytes += static_cast<double>(parameter.value.nbytes());
  }
  for (const auto& grouped : groups) {
    const auto bytes = static_cast<double>(grouped.parameter.value.nbytes());
    memory.gradients_bytes += grouped.learns_in(regime.part) ? bytes : 0;
    switch (grouped.optimizer) {
      case OptimizerKind::kNone:
        break;
      case OptimizerKind::kMuon:
        memory.optimizer_bytes += bytes;
        break;
      case OptimizerKind::kAdamW:
        memory.optimizer_bytes += 2 * bytes;
        break;
    }
  }
  memory.activations_bytes = activation_bytes(config, regime);
  return memory;
}

}  // namespace braid
