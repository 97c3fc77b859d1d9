#pragma once
#include <cstdint>

#include "optim/config.h"

namespace braid {

/// Steps of the learning rate's warm-up (W) in a run of `max_steps`.
int64_t warmup_steps(const ScheduleConfig& config, int64_t max_steps);

/// The step (0-based) from which the learning rate falls; max_steps for a constant schedule.
int64_t decay_start_step(const ScheduleConfig& config, int64_t max_steps);

/// The value at `step` (0-based) of a ramp that ends in `final`.
int64_t ramp_value(const std::vector<RampStage>& stages, int64_t final, int64_t step);

/// The learning rate of step `step` (0-based) as a fraction of the peak. Warm-up: (step + 1) / W.
/// Then 1 until decay_start_step, then from 1 towards min_ratio, which step max_steps would have.
/// From there on it stays what step max_steps has.
double learning_rate_factor(const ScheduleConfig& config, int64_t step, int64_t max_steps);

/// The steps that the schedule of a continued run spans: `spanned` by the schedule so far, of a run
/// that was begun with `max_steps_before` steps and is now to have `max_steps`.
int64_t spanned_steps(const ScheduleConfig& config,
                      int64_t spanned,
                      int64_t max_steps_before,
                      int64_t max_steps);

}  // namespace braid
