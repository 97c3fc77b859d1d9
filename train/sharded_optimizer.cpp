#include "train/sharded_optimizer.h"

#include <map>
#include <utility>

#include <ATen/ATen.h>

#include "core/parameter_names.h"
#include "core/random.h"
#include "kernels/update.h"
#include "optim/rounding_noise.h"

namespace braid {
namespace {

std::vector<ElementRange> owned_ranges(const Sharding& sharding, const GridPlace& place) {
  auto ranges = sharding.dense.owned_by(place.rank % sharding.dense.owners);
  const auto experts = sharding.experts.owned_by(place.replica);
  ranges.insert(ranges.end(), experts.begin(), experts.end());
  // As the parameters come, so that the optimizer's batches do not depend on the grid.
  std::ranges::stable_sort(ranges, {}, &ElementRange::parameter);
  return ranges;
}

std::unique_ptr<GradientSync> sync_of(Communicator& ranks,
                                      const std::vector<GroupedParameter>& parameters,
                                      const Ownership& ownership,
                                      const ParallelSection& config,
                                      std::vector<std::size_t>& indices) {
  std::map<std::size_t, SyncedParameter> synced;
  for (std::size_t u = 0; u < ownership.units.size(); ++u) {
    const auto& range = ownership.units[u].range;
    auto& ranges = synced[range.parameter].ranges;
    if (!ranges.empty() && ranges.back().owner == ownership.owner[u] &&
        ranges.back().end == range.begin) {
      ranges.back().end = range.end;
    } else {
      ranges.push_back({range.begin, range.end, ownership.owner[u]});
    }
  }
  std::vector<SyncedParameter> list;
  for (auto& [index, parameter] : synced) {
    const auto& [name, value] = parameters[index].parameter;
    parameter.value = value;
    parameter.key = random_key(0, name);
    // The trunk and the MTP block read it, where activations are recomputed in two passes.
    parameter.ready_when_summed = !is_embedding(name);
    list.push_back(std::move(parameter));
    indices.push_back(index);
  }
  return std::make_unique<GradientSync>(ranks,
                                        std::move(list),
                                        SyncOptions{.owner_group = ownership.owners,
                                                    .bucket_bytes = config.bucket_mib << 20,
                                                    .fixed_order = config.fixed_order,
                                                    .reduce_dtype = config.reduce_dtype});
}

}  // namespace

ShardedOptimizer::ShardedOptimizer(const OptimizerConfig& config,
                                   const ParallelSection& parallel,
                                   std::vector<GroupedParameter> parameters,
                                   ProcessGrid& grid)
    : grid_(grid),
      sharding_(sharding_of(parameters, grid.place, config.zero_group, parallel.fixed_order)),
      owned_(owned_ranges(sharding_, grid.place)),
      optimizer_(config, std::move(parameters), owned_),
      dense_sync_(sync_of(*grid.world, optimizer_.parameters(), sharding_.dense, parallel, dense_)),
      experts_sync_(sync_of(
          *grid.replicas, optimizer_.parameters(), sharding_.experts, parallel, experts_)) {}

void ShardedOptimizer::begin_step(TrainedParts parts) {
  parts_ = parts;
  const auto learning = [&](const std::vector<std::size_t>& indices) {
    std::vector<bool> learns;
    for (const std::size_t i : indices) {
      learns.push_back(parameters()[i].learns_in(parts));
    }
    return learns;
  };
  dense_sync_->begin_step(optimizer_.steps().all, learning(dense_));
  experts_sync_->begin_step(optimizer_.steps().all, learning(experts_));
}

void ShardedOptimizer::begin_micro_batch(bool is_last) {
  dense_sync_->begin_micro_batch(is_last);
  experts_sync_->begin_micro_batch(is_last);
}

void ShardedOptimizer::reduce() {
  dense_sync_->finish();
  experts_sync_->finish();
}

std::vector<ShardedOptimizer::ParameterNorm> ShardedOptimizer::squared_norms() {
  // 1. Of the units this rank answers for: the first owner group's dense ones, and its experts'.
  const auto& place = grid_.place;
  const auto gradient = [&](const Unit& unit) {
    return parameters()[unit.range.parameter].parameter.value.grad().view(-1).slice(
        0, unit.range.begin, unit.range.end);
  };
  const auto learns = [&](const Unit& unit) {
    return parameters()[unit.range.parameter].learns_in(parts_);
  };
  std::vector<at::Tensor> gradients;
  for (std::size_t u = 0; u < sharding_.dense.units.size(); ++u) {
    const auto& unit = sharding_.dense.units[u];
    if (sharding_.dense.owner[u] == place.rank && learns(unit)) {
      gradients.push_back(gradient(unit));
    }
  }
  for (std::size_t u = 0; u < sharding_.experts.units.size(); ++u) {
    const auto& unit = sharding_.experts.units[u];
    if (sharding_.experts.owner[u] == place.replica && learns(unit)) {
      gradients.push_back(gradient(unit));
    }
  }
  auto own = braid::squared_norms(gradients);
  const auto add_reached = [&own](const GradientSync& sync, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      own.push_back(sync.was_reached(i) ? 1 : 0);
    }
  };
  add_reached(*dense_sync_, dense_.size());
  add_reached(*experts_sync_, experts_.size());
  const auto all = grid_.world->all_gather(own, "gradient norms");

  // 2. Summed by parameter in the order of units, experts in the order of their numbers.
  std::vector<std::size_t> next(all.size(), 0);
  const auto take = [&](int64_t rank) {
    const auto r = static_cast<std::size_t>(rank);
    return all[r][next[r]++];
  };
  std::vector<std::vector<double>> squares(parameters().size());
  for (std::size_t u = 0; u < sharding_.dense.units.size(); ++u) {
    if (learns(sharding_.dense.units[u])) {
      squares[sharding_.dense.units[u].range.parameter].push_back(take(sharding_.dense.owner[u]));
    }
  }
  std::vector<std::vector<double>> of_experts(parameters().size() *
                                              static_cast<std::size_t>(place.expert_size));
  for (std::size_t u = 0; u < sharding_.experts.units.size(); ++u) {
    const auto& unit = sharding_.experts.units[u];
    for (int64_t e = 0; e < place.expert_size && learns(unit); ++e) {
      of_experts[unit.range.parameter * static_cast<std::size_t>(place.expert_size) +
                 static_cast<std::size_t>(e)]
          .push_back(take(sharding_.experts.owner[u] * place.expert_size + e));
    }
  }
  std::vector<ParameterNorm> result;
  for (std::size_t i = 0; i < parameters().size(); ++i) {
    if (!parameters()[i].learns_in(parts_)) {
      continue;
    }
    auto& norm = result.emplace_back(ParameterNorm{parameters()[i].parameter.name});
    for (const double value : squares[i]) {
      norm.square += value;
    }
    for (int64_t e = 0; e < place.expert_size; ++e) {
      for (const double value : of_experts[i * static_cast<std::size_t>(place.expert_size) +
                                           static_cast<std::size_t>(e)]) {
        norm.square += value;
      }
    }
  }
  find_gradients(all, result);
  return result;
}

// Which parameters a loss reaches on any rank (the numbers behind each rank's units), with more
// than rounding.
void ShardedOptimizer::find_gradients(const std::vector<std::vector<double>>& of_ranks,
                                      std::vector<ParameterNorm>& norms) {
  has_gradient_.assign(parameters().size(), false);
  const std::size_t synced = dense_.size() + experts_.size();
  for (const auto& numbers : of_ranks) {
    for (std::size_t i = 0; i < synced; ++i) {
      const std::size_t index = i < dense_.size() ? dense_[i] : experts_[i - dense_.size()];
      has_gradient_[index] = has_gradient_[index] || numbers[numbers.size() - synced + i] > 0;
    }
  }
  std::vector<std::size_t> learning;  // norms are theirs
  SquareSum whole;
  for (std::size_t i = 0; i < parameters().size(); ++i) {
    if (parameters()[i].learns_in(parts_)) {
      whole.sum += norms[learning.size()].square;
      whole.elements += elements_of(i);
      learning.push_back(i);
    }
  }
  for (std::size_t n = 0; n < learning.size(); ++n) {
    const std::size_t i = learning[n];
    const SquareSum own{norms[n].square, elements_of(i)};
    const auto type = parameters()[i].parameter.value.scalar_type();
    has_gradient_[i] = has_gradient_[i] && !is_rounding_noise(own, whole, type);
    norms[n].has_gradient = has_gradient_[i];
  }
}

// Of the whole parameter, all ranks' experts together.
int64_t ShardedOptimizer::elements_of(std::size_t parameter) const {
  const auto& [name, value] = parameters()[parameter].parameter;
  return value.numel() * (is_stack(name) ? grid_.place.expert_size : 1);
}

void ShardedOptimizer::step(double learning_rate, double gradient_scale) {
  for (std::size_t i = 0; i < parameters().size(); ++i) {
    if (!has_gradient_[i]) {
      parameters()[i].parameter.value.mutable_grad().reset();
    }
  }
  optimizer_.step(learning_rate, parts_, gradient_scale);
  dense_sync_->share_weights();
  experts_sync_->share_weights();
}

std::string ShardedOptimizer::first_not_finite() const {
  const auto own = optimizer_.first_not_finite(parts_);
  if (grid_.world->sum({own.empty() ? 0 : 1}, "whether weights are finite")[0] == 0) {
    return {};
  }
  for (const auto& found : grid_.world->all_gather(own, "weights that are not finite")) {
    if (!found.empty()) {
      return found;
    }
  }
  return {};
}

}  // namespace braid
