#pragma once
#include <optional>
#include <string>
#include <vector>

#include "run/config.h"

namespace braid {

/// A number that the records of a run's training steps may have in metrics.jsonl.
struct MetricKey {
  std::string key;
  std::optional<Monitor> monitor = {};  ///< which gives it, if one does
};
std::vector<MetricKey> metric_keys(const RunConfig& config);

/// Throws ConfigError for alarms on numbers that the run does not have, with the nearest one, or
/// without a threshold. The default ones may be about monitors that are off.
void validate_alarms(const RunConfig& config);

}  // namespace braid
