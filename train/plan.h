#pragma once
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "train/config.h"

namespace braid {

/// What one part of the model is and costs.
struct PartPlan {
  std::string part;
  int64_t parameters = 0;     ///< floating-point ones, as published sizes count them
  int64_t active = 0;         ///< of them, those a token uses: one row of the embedding, K experts
  double forward_flops = 0;   ///< per token, as train/flops.h counts
  double backward_flops = 0;  ///< per token
};

/// Bytes while training, estimated. Weights include the tables of hash routers.
struct MemoryPlan {
  double weights_bytes = 0;
  double gradients_bytes = 0;
  double optimizer_bytes = 0;
  /// What autograd keeps of one micro-batch for the backward pass, without working tensors:
  ///   tokens x (element bytes x elements per token + mask bytes per token), where a layer keeps
  ///     2 (M D + 3 D)                        streams; input, normed input and output of a sublayer
  ///     2 L + 4 N H + 2 H + G O              queries, keys, attention and output latents
  ///     2 X, wide                            keys and weights of its compressor, X its width
  ///     K (D + 3 F) + 3 F shared + 6 E wide  experts and router
  ///   and after the layers M D + 2 D. Masks: a byte for each raw key and for each entry of each
  ///   ratio, and in a CSA layer that selects for each entry again. Letters as in model/shapes.h.
  ///   Logits exist in chunks only and are not counted.
  double activations_bytes = 0;

  double total_bytes() const {
    return weights_bytes + gradients_bytes + optimizer_bytes + activations_bytes;
  }
};

/// What a run would do, known without data, memory for weights or a step of training.
struct Plan {
  std::vector<PartPlan> parts;
  int64_t steps = 0, tokens_per_step = 0;
  double newton_schulz_flops = 0;  ///< per step
  MemoryPlan memory;
  std::string groups;  ///< group_table()

  /// Sums over the parts; part is "total".
  PartPlan total() const;
  /// Forward and backward of all tokens, and Newton-Schulz.
  double flops_per_step() const;
};

/// Throws what training would: ConfigError for groups that cannot be.
Plan plan_training(const RunConfig& config);

/// For readable(), without the group table.
nlohmann::ordered_json report(const Plan& plan);

}  // namespace braid
