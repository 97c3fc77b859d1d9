#include "plan/memory_plan.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <set>

#include <ATen/ATen.h>

#include "core/named_tensor.h"
#include "core/parameter_names.h"
#include "kernels/precision.h"
#include "model/expert_places.h"
#include "model/expert_ring.h"
#include "model/geometry.h"
#include "parallel/gradient_sync.h"
#include "run/grouped_parameters.h"

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

// What mHC keeps of a collapse, beside the streams: projections of `rows` rows, weights of the
// streams and two norms.
double kept_by_collapse(double M, double rows) {
  return rows + M + 2;
}

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
  const double mixing =
      config.residual == ResidualKind::kMhc ? kept_by_collapse(M, (2 + M) * M) + M + M * M : 0;
  Kept kept;
  // Of both sublayers streams, input and output; queries before their norm, rotated, and their
  // outputs.
  kept.narrow =
      2 * (M * D + 2 * D) + 2 * L + 3 * NH + GO + 2 * H + K * (D + 3 * F) + 3 * F * shared;
  kept.wide = 2 * mixing + 2 * X + 2 * E;
  if (mixed) {  // the inputs of the router and of a compressor
    kept.wide += layer.compresses() ? 2 * D : D;
  }
  return kept;
}

Kept kept_by_stream_head(const ModelConfig& config, bool mixed) {
  const auto D = static_cast<double>(config.hidden_size),
             M = static_cast<double>(config.num_streams());
  const double collapse = config.residual == ResidualKind::kMhc ? kept_by_collapse(M, M) : 0;
  return {.narrow = M * D + D, .wide = collapse + (mixed ? D : 0)};
}

// Beside its layer: a norm and a projection of the embedding, and of the streams, which are kept
// already.
Kept kept_by_mtp(const ModelConfig& config, bool mixed) {
  const auto D = static_cast<double>(config.hidden_size),
             M = static_cast<double>(config.num_streams());
  Kept kept = {.narrow = 2 * D + M * D};
  kept += kept_by_layer(config, config.mtp_layer(), mixed);
  kept += kept_by_stream_head(config, mixed);
  return kept;
}

// Bytes per token of what says who sees whom and which tokens pool into entries.
double visibility_bytes(const ModelConfig& config, int64_t seq_len) {
  constexpr int64_t kNumber = 8, kOfWindow = 2, kOfRatio = 4;
  auto numbers = kOfWindow * static_cast<int64_t>(windows_of(config).size()) +
                 kOfRatio * static_cast<int64_t>(ratios_of(config).size());
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const auto layer = config.layer(i);
    const bool selects = layer.attention == AttentionKind::kCsa && config.index_topk &&
                         *config.index_topk < seq_len / layer.ratio;
    numbers += selects ? *config.index_topk : 0;
  }
  return static_cast<double>(kNumber * numbers);
}

// Of all layers, or with recomputation of one segment beside the streams of all.
Kept kept_by_layers(const ModelConfig& config, int64_t recompute_sublayers, bool mixed) {
  Kept all, largest;
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const auto layer = kept_by_layer(config, config.layer(i), mixed);
    all += layer;
    largest = layer.narrow + layer.wide > largest.narrow + largest.wide ? layer : largest;
  }
  if (recompute_sublayers == 0) {
    return all;
  }
  const auto sublayers = static_cast<double>(2 * config.num_hidden_layers),
             segment = std::min(static_cast<double>(recompute_sublayers), sublayers),
             streams = static_cast<double>(config.num_streams() * config.hidden_size);
  return {.narrow = largest.narrow * segment / 2 + std::ceil(sublayers / segment) * streams,
          .wide = largest.wide * segment / 2};
}

// What the adapters of all layers keep: their narrow products, and with dropout their inputs again.
Kept kept_by_adapters(const RunConfig& config, const Parameters& parameters) {
  Kept kept;
  for (const auto& parameter : parameters.all()) {
    const auto& kind = *kind_of(parameter.name);
    if (kind.role == ParameterRole::kLoraMagnitude) {  // the product that it multiplies
      kept.wide += static_cast<double>(parameter.value.numel());
    }
    if (kind.role != ParameterRole::kLoraA) {
      continue;
    }
    const auto rank = static_cast<double>(parameter.value.size(-2)),
               inputs = static_cast<double>(parameter.value.size(-1));
    const bool is_grouped = parameter.name.ends_with("attn.wo_a.lora_A.weight");
    kept.narrow +=
        rank * static_cast<double>(is_stack(parameter.name) ? config.model.num_experts_per_tok
                                   : is_grouped             ? config.model.o_groups
                                                            : 1);
    kept.narrow += config.adapter.dropout > 0 ? 2 * inputs : 0;
  }
  if (config.train.recompute_sublayers) {
    const auto sublayers = static_cast<double>(2 * config.model.num_hidden_layers);
    kept.narrow *=
        std::min(1.0, static_cast<double>(*config.train.recompute_sublayers) / sublayers);
  }
  return kept;
}

// An adapter of the head makes the adapted matrix, and its gradient, for each loss that reads it.
double adapted_head_bytes(const RunConfig& config, const Parameters& parameters) {
  const bool is_adapted = std::ranges::any_of(parameters.all(), [](const Parameter& parameter) {
    return parameter.name == lora_a_name("head.weight");
  });
  const auto wide = wide_type(scalar_type(config.train.dtype));
  const auto heads = static_cast<double>(config.model.num_nextn_predict_layers > 0 ? 2 : 1);
  return is_adapted ? 2 * heads * static_cast<double>(c10::elementSize(wide)) *
                          static_cast<double>(config.model.vocab_size * config.model.hidden_size)
                    : 0;
}

double activation_bytes(const RunConfig& config,
                        const Parameters& parameters,
                        const Regime& regime,
                        const GridPlace& grid) {
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
  kept += kept_by_adapters(config, parameters);
  const double per_token =
      kept.narrow * narrow_bytes + kept.wide * wide_bytes + visibility_bytes(model, regime.seq_len);
  const int64_t rows = std::min(config.train.micro_batch_size, regime.sequences / grid.data_size);
  return per_token * static_cast<double>(rows * regime.seq_len) /
             static_cast<double>(grid.context_size) +
         adapted_head_bytes(config, parameters);
}

// The experts that are kept as codes, by layer, in the order of passes.
struct CodedExperts {
  std::vector<ExpertLayer> layers;
  std::vector<int64_t> numbers;  // of the layers

  void add(const std::string& name, int64_t last_layer, double bytes) {
    const auto layer = layer_of_experts(name);
    if (layers.empty() || layers.back().name != layer) {
      layers.push_back({layer});
      numbers.push_back(is_mtp(name) ? last_layer : parsed_name(name_in_stack(name, 0))->layer);
    }
    layers.back().bytes += bytes;
  }
};

// Where they are, and what of them travels.
void place_experts(const CodedExperts& experts,
                   const RunConfig& config,
                   const Regime& regime,
                   int64_t micro_batches,
                   MemoryPlan& memory) {
  const auto places = places_of_experts(experts.layers, config.expert_room());
  std::vector<StreamedLayer> streamed;
  double largest = 0;
  for (std::size_t i = 0; i < experts.layers.size(); ++i) {
    const auto& [name, bytes] = experts.layers[i];
    const auto place = memory.on_gpu ? places.at(name) : WeightPlace::kMapped;
    if (place == WeightPlace::kDevice) {
      ++memory.stream.resident_layers;
      memory.resident_experts_bytes += bytes;
    } else {
      (place == WeightPlace::kPinned ? memory.pinned_experts_bytes : memory.mapped_experts_bytes) +=
          bytes;
    }
    if (memory.on_gpu && place != WeightPlace::kDevice) {
      streamed.push_back({experts.numbers[i], bytes, place});
      largest = std::max(largest, bytes);
    }
  }
  memory.weights_bytes += memory.resident_experts_bytes;
  memory.expert_buffers_bytes =
      largest * static_cast<double>(std::min<std::size_t>(streamed.size(), ExpertRing::kBuffers));
  add_streamed(streamed, config.model, regime, micro_batches, memory.stream);
}

}  // namespace

MemoryPlan planned_memory(const RunConfig& config,
                          const Parameters& parameters,
                          const std::vector<GroupedParameter>& groups,
                          const Regime& regime,
                          const GridPlace& grid,
                          double optimizer_bytes,
                          int64_t zero_group,
                          const CodeBytes& codes) {
  const auto ranks = static_cast<double>(grid.ranks),
             expert_ranks = static_cast<double>(grid.expert_size);
  MemoryPlan memory{.on_gpu = config.train.device.kind != DeviceChoice::Kind::kCpu,
                    .optimizer_bytes = optimizer_bytes};
  const auto type = scalar_type(config.train.dtype);
  const bool has_copies = memory.on_gpu && config.train.working_copies && type == at::kBFloat16;
  const double rounded_share = static_cast<double>(c10::elementSize(type)) /
                               static_cast<double>(c10::elementSize(wide_type(type)));
  CodedExperts coded;
  const auto frozen = config.run.init_from.empty() ? std::set<std::string>()
                                                   : frozen_parameters(parameters, groups);
  for (const auto& parameter : parameters.all()) {
    const auto bytes = static_cast<double>(parameter.value.nbytes());
    const bool is_frozen = frozen.contains(parameter.name);
    const auto stored = is_frozen ? codes.find(parameter.name) : codes.end();
    const double held = stored != codes.end() ? stored->second : bytes,
                 of_rank = is_stack(parameter.name) ? held / expert_ranks : held;
    if (stored != codes.end() && is_stack(parameter.name)) {
      coded.add(parameter.name, config.model.num_hidden_layers, of_rank);
      continue;
    }
    memory.weights_bytes += of_rank;
    if (has_copies && parameter.is_rounded && stored == codes.end()) {
      memory.working_copies_bytes += of_rank * rounded_share;
    }
    if (is_frozen) {
      memory.base_weights_bytes += codes.empty() ? of_rank : 0;
    } else {
      memory.saved_weights_bytes += bytes;
    }
  }
  double dense_gradients = 0;
  for (const auto& grouped : groups) {
    if (grouped.learns_in(regime.trained)) {
      const auto bytes = static_cast<double>(grouped.parameter.value.nbytes());
      memory.gradients_bytes += bytes;
      dense_gradients += is_stack(grouped.parameter.name) ? 0 : bytes;
    }
  }
  memory.activations_bytes = activation_bytes(config, parameters, regime, grid);
  if (grid.ranks > 1) {
    // As many buckets as are under way at once: within an owner group, then between groups.
    const auto at_once =
        static_cast<double>(GradientSync::kMostFlights * (config.parallel.bucket_mib << 20));
    const auto owners = static_cast<double>(zero_group);
    const double dense = std::min(dense_gradients, at_once),
                 experts = grid.ranks > grid.expert_size
                               ? std::min(memory.gradients_bytes - dense_gradients, at_once)
                               : 0,
                 rounded = config.parallel.reduce_dtype == ReduceType::kBfloat16 ? 0.5 : 1;
    memory.buckets_bytes = 2 * rounded * (dense + experts) +
                           (owners < ranks ? dense / owners * (1 + ranks / owners) : 0);
  }
  const int64_t of_data_rank = regime.sequences / grid.data_size,
                micro_batches =
                    of_data_rank / std::min(config.train.micro_batch_size, of_data_rank);
  if (config.parallel.fixed_order) {
    memory.gradients_bytes *=
        1 + static_cast<double>(std::bit_width(static_cast<uint64_t>(micro_batches - 1)));
  }
  place_experts(coded, config, regime, micro_batches, memory);
  if (config.checkpoint.in_background) {
    memory.snapshot_bytes = memory.saved_weights_bytes / ranks + optimizer_bytes;
  }
  return memory;
}

}  // namespace braid
