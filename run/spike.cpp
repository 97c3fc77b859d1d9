#include "run/spike.h"

#include <algorithm>
#include <cmath>

namespace braid {

double SpikeDetector::deviation() const {
  return std::sqrt(state_.variance);
}

bool SpikeDetector::spiked(double loss) {
  auto& [mean, variance, steps, above] = state_;
  const double margin = std::max(config_.spike_rise, config_.spike_deviations * deviation());
  if (steps >= config_.spike_memory_steps && !(loss <= mean + margin)) {
    if (++above >= config_.spike_patience) {
      above = 0;
      return true;
    }
    return false;
  }
  above = 0;
  ++steps;
  // A plain mean until the memory is full: the first losses should not linger.
  const double weight = 1.0 / static_cast<double>(std::min(steps, config_.spike_memory_steps));
  const double difference = loss - mean;
  mean += weight * difference;
  variance = (1 - weight) * (variance + weight * difference * difference);
  return false;
}

}  // namespace braid
