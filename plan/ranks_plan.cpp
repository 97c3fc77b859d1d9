#include "plan/ranks_plan.h"

#include <algorithm>
#include <numeric>

#include <ATen/ATen.h>

#include "core/named_tensor.h"
#include "kernels/precision.h"
#include "model/geometry.h"
#include "optim/sharding.h"
#include "parallel/context_exchange.h"
#include "plan/flops.h"

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
                           TrainedParts parts) {
  const bool rounds = config.parallel.reduce_dtype == ReduceType::kBfloat16;
  std::vector<Load> loads(static_cast<std::size_t>(ownership.owners));
  for (std::size_t u = 0; u < ownership.units.size(); ++u) {
    const auto& unit = ownership.units[u];
    const auto& grouped = groups[unit.range.parameter];
    if (grouped.learns_in(parts)) {
      auto& load = loads[static_cast<std::size_t>(ownership.owner[u])];
      const auto elements = static_cast<double>(unit.range.elements()),
                 size = static_cast<double>(grouped.parameter.value.element_size());
      load.gradient_bytes += elements * (rounds ? 2 : size);
      load.weight_bytes += elements * size;
      if (grouped.optimizer == OptimizerKind::kMuon) {  // the unit is one of its matrices
        load.flops += newton_schulz_flops_of_matrix(grouped, config.optimizer.muon);
        load.matrices += 1;
      }
    }
  }
  return loads;
}

double total(const std::vector<Load>& loads, double Load::*what) {
  return std::accumulate(loads.begin(), loads.end(), 0.0, [&](double sum, const Load& load) {
    return sum + load.*what;
  });
}

// How often a layer's exchanges happen in a step: forward, with recomputation again, and backward.
struct Passes {
  double forward = 1, backward = 0;
};

Passes passes_of(const Regime& regime, bool learns) {
  return {.forward = regime.options.recompute_sublayers > 0 ? 2.0 : 1.0,
          .backward = learns ? 1.0 : 0.0};
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
  const auto passes = passes_of(regime, regime.trained.contains(TrainedPart::kTrunk));
  return layers * (passes.forward + passes.backward) * rows * (2 * row_bytes + weight_bytes);
}

// What the context ranks of one group send of one sequence, by rank.
class ContextTraffic {
 public:
  ContextTraffic(const RunConfig& config, const Regime& regime, const GridPlace& grid)
      : model_(config.model),
        regime_(regime),
        N_(grid.context_size),
        share_(regime.seq_len / grid.context_size),
        row_bytes_(static_cast<double>(c10::elementSize(scalar_type(config.train.dtype)))),
        wide_bytes_(
            static_cast<double>(c10::elementSize(wide_type(scalar_type(config.train.dtype))))),
        sent_(static_cast<std::size_t>(grid.context_size), 0.0) {}

  void add(const LayerConfig& layer) {
    const auto H = static_cast<double>(model_.head_dim);
    const auto trunk = passes_of(regime_, regime_.trained.contains(TrainedPart::kTrunk));
    add_rows_before(
        [&](int64_t r) { return kept_raw_keys(layer.window, r * share_); }, H * row_bytes_, trunk);
    if (layer.compresses()) {
      const bool overlap = layer.attention == AttentionKind::kCsa;
      add_compressor(layer.ratio, overlap, H, trunk);
      if (overlap && indexer_runs(regime_.seq_len / layer.ratio)) {
        add_compressor(layer.ratio,
                       overlap,
                       static_cast<double>(model_.index_head_dim),
                       passes_of(regime_, regime_.weights.indexer > 0));
      }
    }
    if (regime_.weights.balance > 0 && layer.routing == RoutingKind::kLearned) {
      const auto visits = static_cast<double>(model_.n_routed_experts) * wide_bytes_;
      for (auto& bytes : sent_) {
        bytes += trunk.forward * static_cast<double>(N_ - 1) * visits;
      }
    }
  }

  double of_busiest() const { return *std::ranges::max_element(sent_); }

 private:
  bool indexer_runs(int64_t entries) const {
    return regime_.weights.indexer > 0 ||
           (!regime_.options.dense_attention && model_.index_topk && *model_.index_topk < entries);
  }

  // with_rows_before(): rows to those on the right, and gradients back to the left.
  template <typename RowsBefore>
  void add_rows_before(const RowsBefore& rows_before, double bytes, Passes passes) {
    std::vector<int64_t> before;
    for (int64_t r = 0; r < N_; ++r) {
      before.push_back(rows_before(r));
    }
    const auto there = rows_sent_before(share_, before);
    for (std::size_t r = 0; r < sent_.size(); ++r) {
      sent_[r] += bytes * (passes.forward * static_cast<double>(there[r]) +
                           passes.backward * static_cast<double>(before[r]));
    }
  }

  // Keys and gates of the tokens that an entry has on the left, then rows_of_all() entries. A rank
  // makes those whose last token it has.
  void add_compressor(int64_t R, bool overlap, double channels, Passes passes) {
    add_rows_before(
        [&](int64_t r) {
          const int64_t first = r * share_ / R, end = (r + 1) * share_ / R;
          return first == end ? 0 : r * share_ - first * R + (overlap && first > 0 ? R : 0);
        },
        (overlap ? 4 : 2) * channels * wide_bytes_,
        passes);
    const int64_t all = N_ * share_ / R;
    for (int64_t r = 0; r < N_; ++r) {
      const int64_t own = (r + 1) * share_ / R - r * share_ / R;
      sent_[static_cast<std::size_t>(r)] += channels * row_bytes_ *
                                            (passes.forward * static_cast<double>((N_ - 1) * own) +
                                             passes.backward * static_cast<double>(all - own));
    }
  }

  const ModelConfig& model_;
  const Regime& regime_;
  int64_t N_, share_;
  double row_bytes_, wide_bytes_;
  std::vector<double> sent_;
};

double context_bytes(const RunConfig& config, const Regime& regime, const GridPlace& grid) {
  if (grid.context_size == 1) {
    return 0;
  }
  ContextTraffic traffic(config, regime, grid);
  for (int64_t i = 0; i < config.model.num_hidden_layers; ++i) {
    traffic.add(config.model.layer(i));
  }
  if (config.model.num_nextn_predict_layers > 0) {
    traffic.add(config.model.mtp_layer());
  }
  return traffic.of_busiest() * static_cast<double>(regime.sequences) /
         static_cast<double>(grid.data_size);
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
  const auto dense = loads_of(config, sharding.dense, groups, regime.trained),
             experts = loads_of(config, sharding.experts, groups, regime.trained);
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
  const double dense_gradients = total(dense, &Load::gradient_bytes),
               experts_gradients = total(experts, &Load::gradient_bytes);
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
         dense_gradients - dense[d].gradient_bytes + (owner_groups - 1) * dense[d].weight_bytes +
             experts_gradients - experts[e].gradient_bytes);
    most(plan.weights_sent_bytes,
         (owners - 1) * dense[d].weight_bytes + (replicas - 1) * experts[e].weight_bytes);
  }
  plan.state_padding =
      all_states > 0 ? plan.optimizer_bytes * static_cast<double>(grid.ranks) / all_states - 1 : 0;
  plan.experts_sent_bytes = exchanged_bytes(config, regime, grid);
  plan.context_sent_bytes = context_bytes(config, regime, grid);
  return plan;
}

}  // namespace braid
