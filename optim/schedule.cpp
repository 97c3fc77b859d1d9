#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace braid {

int64_t decay_start_step(const ScheduleConfig& config, int64_t max_steps) {
  if (config.kind == ScheduleKind::kConstant) {
    return max_steps;
  }
  const auto wanted = std::llround(config.decay_start * static_cast<double>(max_steps));
  return std::min<int64_t>(max_steps, std::max<int64_t>(config.warmup_steps, wanted));
}

double learning_rate_factor(const ScheduleConfig& config, int64_t step, int64_t max_steps) {
  if (step < config.warmup_steps) {
    return static_cast<double>(step + 1) / static_cast<double>(config.warmup_steps);
  }
  const int64_t start = decay_start_step(config, max_steps);
  if (config.kind == ScheduleKind::kConstant || step <= start) {
    return 1;
  }
  const double progress =
      std::min(1.0,
               static_cast<double>(step - start) /
                   static_cast<double>(std::max<int64_t>(1, max_steps - start)));
  const double remaining = config.kind == ScheduleKind::kLinear
                               ? 1 - progress
                               : 0.5 * (1 + std::cos(std::numbers::pi * progress));
  return config.min_ratio + (1 - config.min_ratio) * remaining;
}

}  // namespace braid
