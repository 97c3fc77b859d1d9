#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace braid {

int64_t warmup_steps(const ScheduleConfig& config, int64_t max_steps) {
  if (!config.warmup_share) {
    return config.warmup_steps;
  }
  // 0.07 x 100 is a little above 7 in double.
  return std::llround(std::ceil(*config.warmup_share * static_cast<double>(max_steps) - 1e-9));
}

int64_t decay_start_step(const ScheduleConfig& config, int64_t max_steps) {
  if (config.kind == ScheduleKind::kConstant) {
    return max_steps;
  }
  const int64_t wanted = std::llround(config.decay_start * static_cast<double>(max_steps));
  return std::min<int64_t>(max_steps, std::max(warmup_steps(config, max_steps), wanted));
}

int64_t ramp_value(const std::vector<RampStage>& stages, int64_t final, int64_t step) {
  for (const auto& stage : stages) {
    if (step < stage.until_step) {
      return stage.value;
    }
  }
  return final;
}

void ScheduleConfig::validate() const {
  const auto check = [](const std::string& key, const std::vector<RampStage>& stages) {
    for (std::size_t i = 1; i < stages.size(); ++i) {
      if (stages[i].until_step <= stages[i - 1].until_step) {
        throw ConfigError(text(key, "[", i, "].until_step"),
                          text("is ",
                               stages[i].until_step,
                               ", not after the stage before it (",
                               stages[i - 1].until_step,
                               "); stages stand in order"));
      }
    }
  };
  check("schedule.global_batch_size", global_batch_size);
  check("schedule.seq_len", seq_len);
}

double learning_rate_factor(const ScheduleConfig& config, int64_t step, int64_t max_steps) {
  step = std::min(step, max_steps);
  const int64_t warmup = warmup_steps(config, max_steps);
  if (step < warmup) {
    return static_cast<double>(step + 1) / static_cast<double>(warmup);
  }
  const int64_t start = decay_start_step(config, max_steps);
  if (config.kind == ScheduleKind::kConstant || step <= start) {
    return 1;
  }
  const double progress =
      std::min(1.0,
               static_cast<double>(step - start) /
                   static_cast<double>(std::max<int64_t>(1, max_steps - start)));
  double remaining = 1;
  switch (config.kind) {
    case ScheduleKind::kConstant:
      break;
    case ScheduleKind::kCosine:
      remaining = 0.5 * (1 + std::cos(std::numbers::pi * progress));
      break;
    case ScheduleKind::kLinear:
      remaining = 1 - progress;
      break;
    case ScheduleKind::kSqrt:
      remaining = 1 - std::sqrt(progress);
      break;
  }
  return config.min_ratio + (1 - config.min_ratio) * remaining;
}

int64_t spanned_steps(const ScheduleConfig& config,
                      int64_t spanned,
                      int64_t max_steps_before,
                      int64_t max_steps) {
  const bool stretches = config.on_longer == OnLonger::kStretch && max_steps > max_steps_before;
  return stretches ? max_steps : std::min(spanned, max_steps);
}

}  // namespace braid
