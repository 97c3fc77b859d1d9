#pragma once
#include <cstdint>
#include <string>

#include "core/config.h"

namespace braid {

/// How many steps a run has: a number, or as many as train.epochs makes of the data, which is known
/// once the data was read (run/epoch_steps.h). In YAML `1000`, `by epochs`, `1000 by epochs`.
class StepCount {
 public:
  StepCount(int64_t steps = 1000) : steps_(steps) {}  // NOLINT: a number is one
  static StepCount by_epochs() { return {kUncounted, true}; }
  static StepCount by_epochs(int64_t counted) { return {counted, true}; }

  /// More than any run has while epochs are not counted, so that all of its stages are seen.
  int64_t steps() const { return steps_; }
  operator int64_t() const { return steps_; }  // NOLINT: it is one
  bool is_by_epochs() const { return by_epochs_; }
  bool is_known() const { return !by_epochs_ || steps_ != kUncounted; }

  static constexpr const char* kConfigKind = "whole number >= 1 | by epochs";
  static StepCount from_config(const ConfigNode& node,
                               const std::string& path,
                               ConfigPlaces& places);
  ConfigNode to_config() const;

 private:
  static constexpr int64_t kUncounted = 1'000'000'000'000;
  StepCount(int64_t steps, bool by_epochs) : steps_(steps), by_epochs_(by_epochs) {}

  int64_t steps_;
  bool by_epochs_ = false;
};

}  // namespace braid
