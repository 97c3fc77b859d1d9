#include "train/step_result.h"

#include <cmath>

#include "core/parameter_names.h"
#include "core/profile.h"

namespace braid {

GradientNorms gradient_norms(ShardedOptimizer& optimizer) {
  const ProfileScope scope("gradient norm", ProfileKind::kStep);
  GradientNorms norms;
  double total = 0;
  for (const auto& [name, square, has_gradient] : optimizer.squared_norms()) {
    if (!has_gradient) {
      norms.absent.push_back(name);
    }
    total += square;
    const auto part = name_of(part_of(name));
    norms.parts[part] += square;
    if (!std::isfinite(square)) {
      norms.not_finite.emplace(part, name);
    }
  }
  norms.total = std::sqrt(total);
  for (auto& [part, square] : norms.parts) {
    square = std::sqrt(square);
  }
  return norms;
}

std::string list_not_finite(const Losses& losses, const GradientNorms& gradients) {
  std::string list;
  const auto add = [&list](const std::string& what) { list += (list.empty() ? "" : ", ") + what; };
  for (const auto& term : losses.terms) {
    if (!std::isfinite(term.value)) {
      add(std::string(term.label));
    }
  }
  for (const auto& [part, parameter] : gradients.not_finite) {
    add(text("gradients of ", part, " (", parameter, ")"));
  }
  return list;
}

}  // namespace braid
