#pragma once
// Models of millisecond size in which no part is idle.

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "model/transformer.h"

namespace braid::testing {

/// Window 5, CSA ratio 4 with top-2, HCA ratio 6, one hash layer: a window, a CSA, an HCA and
/// another CSA layer, mHC of four streams.
ModelConfig tiny_config();

/// tiny_config() with these layers; CSA has ratio 4, HCA 6.
ModelConfig tiny_config(const std::vector<AttentionKind>& layers);

/// Every attention kind on its own, and all of them together.
struct NamedLayers {
  const char* name;
  std::vector<AttentionKind> layers;
};
std::vector<NamedLayers> layer_mixes();

/// A model with noise on every floating-point parameter: the default initial values (sinks, ape,
/// biases 0, norms 1, constant mHC bases) would hide errors.
Transformer randomized(const ModelConfig& config,
                       at::ScalarType compute = at::kDouble,
                       const ModelRanks& ranks = {},
                       at::Device device = at::kCPU,
                       const std::optional<LoraConfig>& lora = {});

/// A pure function of the sizes and `stream`.
at::Tensor random_ids(int64_t B, int64_t S, int64_t vocab_size, int stream = 0);

/// Logits [B, S, V] of rows that are one document each.
at::Tensor logits_of(const Transformer& model, const at::Tensor& ids_BS);

/// The parameter of this (stacked) name; fails when the model has none.
at::Tensor parameter(const Transformer& model, const std::string& name);

/// Forgets all gradients.
void clear_gradients(const Transformer& model);

}  // namespace braid::testing
