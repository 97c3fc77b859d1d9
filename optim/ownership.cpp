#include "optim/ownership.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/newton_schulz.h"

namespace braid {
namespace {

constexpr int64_t kElementsOfARowUnit = 1 << 18;

void add_matrices(const GroupedParameter& grouped, std::size_t index, std::vector<Unit>& units) {
  const auto matrices_Brc = matrices_of(grouped, grouped.parameter.value);
  const int64_t rows = matrices_Brc.size(1), cols = matrices_Brc.size(2), elements = rows * cols;
  const double flops = newton_schulz_iteration_flops(rows, cols).whole;
  for (int64_t b = 0; b < matrices_Brc.size(0); ++b) {
    units.push_back({{index, b * elements, (b + 1) * elements},
                     flops,
                     elements * grouped.parameter.value.element_size()});
  }
}

void add_rows(const GroupedParameter& grouped, std::size_t index, std::vector<Unit>& units) {
  const auto states = static_cast<int64_t>(state_names(grouped.optimizer).size());
  int64_t first = 0;
  for (const auto& [name, value] : unstacked({grouped.parameter})) {
    const int64_t row = value.dim() > 0 && value.size(0) > 0 ? value.numel() / value.size(0) : 1;
    const int64_t step =
        std::max<int64_t>(1, kElementsOfARowUnit / std::max<int64_t>(1, row)) * row;
    for (int64_t begin = 0; begin < value.numel(); begin += step) {
      const int64_t end = std::min(value.numel(), begin + step);
      units.push_back(
          {{index, first + begin, first + end}, 0, states * (end - begin) * value.element_size()});
    }
    first += value.numel();
  }
}

}  // namespace

std::vector<std::string> state_names(OptimizerKind optimizer) {
  switch (optimizer) {
    case OptimizerKind::kMuon:
      return {"momentum"};
    case OptimizerKind::kAdamW:
      return {"exp_avg", "exp_avg_sq"};
    case OptimizerKind::kNone:
      return {};
  }
  fail("unreachable: OptimizerKind");
}

std::vector<Unit> units_of(const std::vector<GroupedParameter>& parameters) {
  double elements = 0;
  for (const auto& grouped : parameters) {
    if (!grouped.is_frozen() && grouped.optimizer != OptimizerKind::kMuon) {
      elements += static_cast<double>(grouped.parameter.value.numel());
    }
  }
  constexpr double kMostElements = 5e12;
  require(elements <= kMostElements,
          "the model has ",
          elements,
          " parameters for element-wise optimizers such as AdamW, more than can be divided among "
          "ranks (",
          kMostElements,
          "); check the sizes in the section `model`, such as model.vocab_size");
  std::vector<Unit> units;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (parameters[i].optimizer == OptimizerKind::kMuon) {
      add_matrices(parameters[i], i, units);
    } else if (!parameters[i].is_frozen()) {
      add_rows(parameters[i], i, units);
    }
  }
  return units;
}

double Ownership::flops_imbalance() const {
  std::vector<double> work(static_cast<std::size_t>(owners), 0);
  for (std::size_t u = 0; u < units.size(); ++u) {
    work[static_cast<std::size_t>(owner[u])] += units[u].flops;
  }
  const double total = std::accumulate(work.begin(), work.end(), 0.0);
  return total == 0 ? 1 : *std::ranges::max_element(work) * static_cast<double>(owners) / total;
}

std::vector<int64_t> Ownership::state_bytes() const {
  std::vector<int64_t> bytes(static_cast<std::size_t>(owners), 0);
  for (std::size_t u = 0; u < units.size(); ++u) {
    bytes[static_cast<std::size_t>(owner[u])] += units[u].state_bytes;
  }
  return bytes;
}

std::vector<ElementRange> Ownership::owned_by(int64_t rank) const {
  std::vector<ElementRange> ranges;
  for (std::size_t u = 0; u < units.size(); ++u) {
    const auto& range = units[u].range;
    if (owner[u] != rank) {
      continue;
    }
    if (!ranges.empty() && ranges.back().parameter == range.parameter &&
        ranges.back().end == range.begin) {
      ranges.back().end = range.end;
    } else {
      ranges.push_back(range);
    }
  }
  return ranges;
}

Ownership balanced_ownership(std::vector<Unit> units, int64_t owners) {
  Ownership result{std::move(units), {}, owners};
  result.owner.resize(result.units.size());
  std::vector<std::size_t> order(result.units.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) {
    const auto &x = result.units[a], &y = result.units[b];
    return std::tie(x.flops, x.state_bytes) > std::tie(y.flops, y.state_bytes);
  });
  // The least loaded owner first: by work while matrices are given away, then by state alone.
  struct Load {
    double flops = 0;
    int64_t bytes = 0, owner = 0;
  };
  const auto more = [](const Load& a, const Load& b) {
    return std::tie(a.flops, a.bytes, a.owner) > std::tie(b.flops, b.bytes, b.owner);
  };
  std::vector<Load> loads(static_cast<std::size_t>(owners));
  for (int64_t owner = 0; owner < owners; ++owner) {
    loads[static_cast<std::size_t>(owner)].owner = owner;  // ascending, and so a heap
  }
  bool matrices = true;
  for (const std::size_t u : order) {
    const auto& unit = result.units[u];
    if (matrices && unit.flops == 0) {
      matrices = false;
      for (auto& load : loads) {
        load.flops = 0;
      }
      std::ranges::make_heap(loads, more);
    }
    std::ranges::pop_heap(loads, more);
    auto& least = loads.back();
    least.flops += unit.flops;
    least.bytes += unit.state_bytes;
    result.owner[u] = least.owner;
    std::ranges::push_heap(loads, more);
  }
  return result;
}

Ownership contiguous_ownership(std::vector<Unit> units, int64_t owners) {
  Ownership result{std::move(units), {}, owners};
  const auto cost = [](const Unit& unit) {
    return unit.flops > 0 ? unit.flops : static_cast<double>(unit.state_bytes);
  };
  double total = 0, before = 0;
  for (const auto& unit : result.units) {
    total += cost(unit);
  }
  for (const auto& unit : result.units) {
    const double middle = (before + cost(unit) / 2) / total;
    result.owner.push_back(
        std::min(owners - 1, static_cast<int64_t>(middle * static_cast<double>(owners))));
    before += cost(unit);
  }
  return result;
}

int64_t largest_balanced_group(const std::vector<Unit>& units,
                               int64_t ranks,
                               const std::function<bool(int64_t)>& is_possible,
                               double most) {
  double total = 0, largest = 0;
  for (const auto& unit : units) {
    total += unit.flops;
    largest = std::max(largest, unit.flops);
  }
  for (int64_t groups = 1; groups < ranks; ++groups) {
    const int64_t owners = ranks / groups;
    // One matrix alone may be more than that.
    const bool too_many = largest * static_cast<double>(owners) > most * total;
    if (ranks % groups == 0 && is_possible(owners) && !too_many &&
        balanced_ownership(units, owners).flops_imbalance() <= most) {
      return owners;
    }
  }
  return 1;
}

}  // namespace braid
