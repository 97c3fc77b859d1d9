#include "train/ranks_plan.h"

#include <algorithm>
#include <numeric>

#include <ATen/ATen.h>

#include "core/named_tensor.h"
#include "kernels/precision.h"
#include "train/sharded_optimizer.h"

namespace braid {
namespace {

// Of what one step trains, by owner.
struct Load {
  double flops = 0;  // of Newton-Schulz, all iterations
  double gradient_bytes = 0, weight_bytes = 0;
  int64_t matrices = 0;
};

std::vector<Load> loads_of(const RunConfig& config,
                           const Ownership& ownership,
                           const std::vector<GroupedParameter>& groups,
                           TrainedPart part) {
  const auto& muon = config.optimizer.muon;
  const auto iterations =
      static_cast<double>(muon.newton_schulz_steps + muon.newton_schulz_final_steps);
  const bool rounds = config.parallel.reduce_dtype == ReduceType::kBfloat16;
  std::vector<Load> loads(static_cast<std::size_t>(ownership.owners));
  for (std::size_t u = 0; u < ownership.units.size(); ++u) {
    const auto& unit = ownership.units[u];
    const auto& grouped = groups[unit.range.parameter];
    if (grouped.learns_in(part)) {
      auto& load = loads[static_cast<std::size_t>(ownership.owner[u])];
      const auto elements = static_cast<double>(unit.range.elements()),
                 size = static_cast<double>(grouped.parameter.value.element_size());
      load.flops += unit.flops * iterations;
      load.gradient_bytes += elements * (rounds ? 2 : size);
      load.weight_bytes += elements * size;
      load.matrices += unit.flops > 0;
    }
  }
  return loads;
}

double total(const std::vector<Load>& loads, double Load::*what) {
  return std::accumulate(loads.begin(), loads.end(), 0.0, [&](double sum, const Load& load) {
    return sum + load.*what;
  });
}

// Of one rank, at even routing.
double exchanged_bytes(const RunConfig& config, const Regime& regime, const GridPlace& grid) {
  const auto& model = config.model;
  const auto type = scalar_type(config.train.dtype);
  const auto experts = static_cast<double>(grid.expert_size);
  const double tokens = static_cast<double>(regime.sequences * regime.seq_len) /
                        static_cast<double>(grid.ranks),
               rows = tokens * static_cast<double>(model.num_experts_per_tok) * (1 - 1 / experts),
               row_bytes = static_cast<double>(model.hidden_size * c10::elementSize(type)),
               weight_bytes = static_cast<double>(c10::elementSize(wide_type(type)));
  const auto layers =
      static_cast<double>(model.num_hidden_layers + (model.num_nextn_predict_layers > 0 ? 1 : 0));
  const double passes = 1 + (contains(regime.part, /*is_indexer=*/false) ? 1 : 0) +
                        (regime.options.recompute_sublayers > 0 ? 1 : 0);
  return layers * passes * rows * (2 * row_bytes + weight_bytes);
}

}  // namespace

std::vector<GroupedParameter> groups_of_rank(std::vector<GroupedParameter> groups,
                                             const GridPlace& grid) {
  for (auto& grouped : groups) {
    auto& [name, value] = grouped.parameter;
    if (is_stack(name)) {
      value = value.narrow(0, 0, value.size(0) / grid.expert_size);
    }
  }
  return groups;
}

RanksPlan planned_ranks(const RunConfig& config,
                        const std::vector<GroupedParameter>& groups,
                        const Regime& regime,
                        const GridPlace& grid,
                        double per_token_flops) {
  const auto sharding =
      sharding_of(groups, grid, config.optimizer.zero_group, config.parallel.fixed_order);
  const auto dense = loads_of(config, sharding.dense, groups, regime.part),
             experts = loads_of(config, sharding.experts, groups, regime.part);
  const auto dense_state = sharding.dense.state_bytes(),
             experts_state = sharding.experts.state_bytes();
  const auto owners = static_cast<double>(sharding.dense.owners),
             replicas = static_cast<double>(sharding.experts.owners),
             owner_groups = static_cast<double>(grid.ranks) / owners;

  RanksPlan plan{.grid = grid,
                 .zero_group = sharding.dense.owners,
                 .newton_schulz_imbalance = sharding.dense.flops_imbalance(),
                 .experts_imbalance = sharding.experts.flops_imbalance()};
  plan.forward_backward_flops = per_token_flops *
                                static_cast<double>(regime.sequences * regime.seq_len) /
                                static_cast<double>(grid.ranks);
  double all_states = 0;
  for (int64_t rank = 0; rank < grid.ranks; ++rank) {
    const auto d = static_cast<std::size_t>(rank % sharding.dense.owners),
               e = static_cast<std::size_t>(rank / grid.expert_size);
    const auto most = [](auto& value, auto other) { value = std::max(value, other); };
    const auto state = static_cast<double>(dense_state[d] + experts_state[e]);
    all_states += state;
    most(plan.optimizer_bytes, state);
    most(plan.matrices, dense[d].matrices);
    most(plan.newton_schulz_flops, dense[d].flops + experts[e].flops);
    most(plan.gradients_sent_bytes,
         total(dense, &Load::gradient_bytes) - dense[d].gradient_bytes +
             (owner_groups - 1) * dense[d].weight_bytes + total(experts, &Load::gradient_bytes) -
             experts[e].gradient_bytes);
    most(plan.weights_sent_bytes,
         (owners - 1) * dense[d].weight_bytes + (replicas - 1) * experts[e].weight_bytes);
  }
  plan.state_padding =
      all_states > 0 ? plan.optimizer_bytes * static_cast<double>(grid.ranks) / all_states - 1 : 0;
  plan.experts_sent_bytes = exchanged_bytes(config, regime, grid);
  return plan;
}

}  // namespace braid
