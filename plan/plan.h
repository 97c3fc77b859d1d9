#pragma once
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "plan/memory_plan.h"
#include "plan/ranks_plan.h"
#include "run/config.h"
#include "run/regime.h"

namespace braid {

/// What one part of the model is, and what it costs in a step like the run's last.
struct PartPlan {
  std::string part;  ///< of core/parameter_names.h; attention and indexer scores by themselves
  int64_t parameters = 0;     ///< floating-point ones, as published sizes count them
  int64_t active = 0;         ///< of them, those a token uses: one row of the embedding, K experts
  double forward_flops = 0;   ///< per token, as plan/flops.h counts
  double backward_flops = 0;  ///< per token; 0 for what does not learn
};

/// Consecutive steps of one kind.
struct StagePlan {
  Regime regime;  ///< of its first step
  int64_t steps = 0;
  double forward_backward_flops = 0;  ///< per token
  /// Per token: the forward pass that chooses experts, with model.routing_mode: anticipatory. What
  /// a spike turns on is not known before.
  double look_ahead_flops = 0;
  /// Per token: what the backward pass computes again (train.recompute_sublayers). It takes time
  /// and is none of the model's operations.
  double recomputed_flops = 0;
  double newton_schulz_flops = 0;  ///< per step

  int64_t tokens() const { return steps * regime.sequences * regime.seq_len; }
  double token_flops() const { return forward_backward_flops + look_ahead_flops; }
  double flops() const {
    return token_flops() * static_cast<double>(tokens()) +
           newton_schulz_flops * static_cast<double>(steps);
  }
};

/// What a run would do, known without data, memory for weights or a step of training.
struct Plan {
  std::vector<StagePlan> stages;
  std::vector<PartPlan> parts;
  RanksPlan ranks;
  MemoryPlan memory;            ///< of one rank
  double checkpoint_bytes = 0;  ///< of one checkpoint, all ranks' shards, not compressed
  std::string groups;           ///< group_table()
  std::string adapters;         ///< adapter_table(), empty without adapters

  /// Sums over the parts; part is "total".
  PartPlan total() const;
};

/// The stages of a run, in order.
std::vector<StagePlan> planned_stages(const RunConfig& config);

/// Operations of the forward and backward pass per token, as plan/flops.h counts. A frozen matrix
/// has one product in the backward pass instead of two. `groups` may be one rank's.
double forward_backward_flops(const ModelConfig& config,
                              const std::vector<GroupedParameter>& groups,
                              const Regime& regime);

/// `codes` is what the base (run.init_from) holds quantized. Throws what training on that many
/// ranks would: ConfigError for groups or grids that cannot be.
Plan plan_training(const RunConfig& config, int64_t ranks = 1, const CodeBytes& codes = {});

/// The speed that a time is estimated from.
struct PlannedSpeed {
  double peak_flops = 0;  ///< operations per second that one rank could do
  std::string measured;   ///< where that is from
  /// Of the peak, as counted operations, that training reaches: models of a hidden size of 256 to
  /// 512 have 0.4 to 0.65 on a CPU (docs/performance.md), tiny ones and short sequences less.
  double share = 0.5;
  /// Bytes per second that are copied from the host to a GPU: what a PCIe 5.0 x16 link reaches of
  /// its 63e9.
  double link_bytes = 52e9;
  /// Bytes per second that are read from the base's files: one NVMe drive.
  double disk_bytes = 5e9;
};

/// Seconds of a step like the run's last, and of the whole run; validation, saving, and waiting for
/// other ranks not counted. Copies of experts to a GPU go on beside its operations: of the two a
/// step takes the longer.
struct PlannedTime {
  double operations = 0, copies = 0;  ///< of a step
  double step = 0, run = 0;
};
PlannedTime planned_time(const Plan& plan, const PlannedSpeed& speed);

/// On standard output, for people.
void print_plan(const Plan& plan, const PlannedSpeed& speed);

/// For readable(), without the group table. The ranks' part is there when there are several.
nlohmann::ordered_json report(const Plan& plan, const PlannedSpeed& speed);

}  // namespace braid
