#include "train/update_monitor.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/parameter_names.h"
#include "core/profile.h"
#include "core/random.h"
#include "optim/clip.h"
#include "optim/group_table.h"

namespace braid {
namespace {

// The matrices that an eigenvalue solver is done with in a second or two.
constexpr int64_t kLongestShortSide = 2048;

std::string part_name(const GroupedParameter& grouped) {
  return std::string(name_of(part_of(grouped.parameter.name)));
}

}  // namespace

UpdateMonitor::UpdateMonitor(const ShardedOptimizer& optimizer,
                             const GridPlace& place,
                             const MuonConfig& muon)
    : optimizer_(optimizer), muon_(muon), rank_(place.rank) {
  const auto add = [&](const Unit& unit, int64_t rank) {
    if (rank == rank_) {
      own_.push_back(unit.range);
    }
    const auto& grouped = optimizer.parameters()[unit.range.parameter];
    if (grouped.optimizer != OptimizerKind::kMuon) {
      return;
    }
    const auto sizes = matrices_of(grouped, grouped.parameter.value).sizes();
    if (std::min(sizes[1], sizes[2]) <= kLongestShortSide) {
      muon_units_.push_back({unit.range, rank});
    }
  };
  const auto& [dense, experts] = optimizer.sharding();
  for (std::size_t u = 0; u < dense.units.size(); ++u) {
    add(dense.units[u], dense.owner[u]);  // of the first owner group; others have the same
  }
  // In the order of the experts of each parameter, as on one rank.
  for (std::size_t first = 0, end = 0; first < experts.units.size(); first = end) {
    const auto parameter = experts.units[first].range.parameter;
    while (end < experts.units.size() && experts.units[end].range.parameter == parameter) {
      ++end;
    }
    for (int64_t expert = 0; expert < place.expert_size; ++expert) {
      for (std::size_t u = first; u < end; ++u) {
        add(experts.units[u], experts.owner[u] * place.expert_size + expert);
      }
    }
  }
}

at::Tensor UpdateMonitor::weights(const ElementRange& range) const {
  return optimizer_.parameters()[range.parameter].parameter.value.detach().view(-1).slice(
      0, range.begin, range.end);
}

UpdateMonitor::Kept UpdateMonitor::copy_of(const ElementRange& range) const {
  return {range, weights(range).clone()};
}

void UpdateMonitor::before_step(int64_t measurement, TrainedParts parts, double learning_rate) {
  const ProfileScope scope("monitors", ProfileKind::kStep);
  learning_rate_ = learning_rate;
  kept_.clear();
  matrix_.clear();
  if (learning_rate > 0) {
    keep_some_of_each_part(measurement, parts);
    keep_one_matrix(measurement, parts);
  }
}

void UpdateMonitor::keep_some_of_each_part(int64_t measurement, TrainedParts parts) {
  constexpr int64_t kElements = 1 << 21;
  std::map<std::pair<std::string, OptimizerKind>, std::vector<ElementRange>> units;
  for (const auto& range : own_) {
    const auto& grouped = optimizer_.parameters()[range.parameter];
    if (grouped.learns_in(parts)) {
      units[{part_name(grouped), grouped.optimizer}].push_back(range);
    }
  }
  for (const auto& [part, ranges] : units) {
    // From where the last measurement ended if all are about as large.
    const auto count = static_cast<int64_t>(ranges.size());
    const int64_t at_once = std::max<int64_t>(1, kElements / ranges.front().elements());
    const int64_t first = measurement * std::min(at_once, count) % count;
    int64_t elements = 0;
    for (int64_t i = 0; i < count; ++i) {
      const auto& range = ranges[static_cast<std::size_t>((first + i) % count)];
      if (i > 0 && elements + range.elements() > kElements) {
        break;
      }
      elements += range.elements();
      kept_.push_back(copy_of(range));
    }
  }
}

void UpdateMonitor::keep_one_matrix(int64_t measurement, TrainedParts parts) {
  if (muon_units_.empty()) {
    return;
  }
  static const uint64_t key = random_key(0, "matrix whose orthogonality is measured");
  const auto drawn = random_bits(key, static_cast<uint64_t>(measurement)) % muon_units_.size();
  const auto& [range, rank] = muon_units_[drawn];
  if (rank == rank_ && optimizer_.parameters()[range.parameter].learns_in(parts)) {
    matrix_.push_back(copy_of(range));
  }
}

// W (1 - rate decay) - W' over the rate.
at::Tensor UpdateMonitor::subtracted(const Kept& kept) const {
  const auto& grouped = optimizer_.parameters()[kept.range.parameter];
  const double rate = learning_rate_ * grouped.learning_rate_scale;
  return (kept.before.to(at::kDouble) * (1 - rate * grouped.weight_decay) -
          weights(kept.range).to(at::kDouble)) /
         rate;
}

void UpdateMonitor::after_step(Tally& tally) {
  const ProfileScope scope("monitors", ProfileKind::kStep);
  const at::NoGradGuard no_grad;
  const auto took_a_step = [&](const Kept& kept) {
    const auto& grouped = optimizer_.parameters()[kept.range.parameter];
    return grouped.parameter.value.grad().defined() && grouped.learning_rate_scale > 0;
  };
  for (const auto& kept : kept_) {
    if (took_a_step(kept)) {
      const auto& grouped = optimizer_.parameters()[kept.range.parameter];
      const std::string optimizer = enum_name(grouped.optimizer);
      tally.add_squares(text("update_rms.", optimizer, ".", part_name(grouped)),
                        subtracted(kept).square().sum().item<double>(),
                        static_cast<double>(kept.range.elements()));
    }
  }
  if (!matrix_.empty() && took_a_step(matrix_.front())) {
    add_orthogonality(tally);
  }
  kept_.clear();
  matrix_.clear();
}

void UpdateMonitor::add_orthogonality(Tally& tally) const {
  const auto& kept = matrix_.front();
  const auto& grouped = optimizer_.parameters()[kept.range.parameter];
  const auto sizes = matrices_of(grouped, grouped.parameter.value).sizes();
  const int64_t rows = sizes[1], columns = sizes[2];
  const double scale = muon_.update_rms * std::sqrt(static_cast<double>(std::max(rows, columns)));
  auto O = subtracted(kept).view({rows, columns}) / scale;
  O = rows > columns ? O.transpose(0, 1) : O;
  const auto values = at::linalg_eigvalsh(at::matmul(O, O.transpose(0, 1))).clamp_min(0).sqrt();
  tally.add("orthogonality_rank",
            (values > 0.5).sum().item<double>(),
            static_cast<double>(values.numel()));
  tally.raise("orthogonality_error", std::abs(values.max().item<double>() - 1));
}

void UpdateMonitor::add_weights(Tally& tally) const {
  const ProfileScope scope("monitors", ProfileKind::kStep);
  for (const auto& range : own_) {
    tally.add_squares("weight_rms." + part_name(optimizer_.parameters()[range.parameter]),
                      squared_norm(weights(range)),
                      static_cast<double>(range.elements()));
  }
}

}  // namespace braid
