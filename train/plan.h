#pragma once
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "train/config.h"
#include "train/memory_plan.h"

namespace braid {

/// What one part of the model is and costs.
struct PartPlan {
  std::string part;
  int64_t parameters = 0;     ///< floating-point ones, as published sizes count them
  int64_t active = 0;         ///< of them, those a token uses: one row of the embedding, K experts
  double forward_flops = 0;   ///< per token, as train/flops.h counts
  double backward_flops = 0;  ///< per token
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
