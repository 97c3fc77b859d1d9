#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "core/config.h"
#include "run/alarm_config.h"

namespace braid {

enum class SpikeAction { kOff, kLog, kRollback, kAnticipate };
inline auto enum_names(SpikeAction) {
  return std::array{EnumName{"off", SpikeAction::kOff},
                    EnumName{"log", SpikeAction::kLog},
                    EnumName{"rollback", SpikeAction::kRollback},
                    EnumName{"anticipate", SpikeAction::kAnticipate}};
}

struct StabilitySection {
  int64_t max_skipped_steps = 10;
  SpikeAction spike_action = SpikeAction::kLog;
  double spike_deviations = 6;
  double spike_rise = 0.3;
  int64_t spike_patience = 3;
  int64_t spike_memory_steps = 100;
  int64_t max_rollbacks = 3;
  int64_t anticipatory_steps = 200;
  std::vector<AlarmRule> alarms = default_alarms();

  /// Whether a spike is answered by a rollback.
  bool goes_back() const {
    return spike_action == SpikeAction::kRollback || spike_action == SpikeAction::kAnticipate;
  }

  template <class Visitor>
  static void fields(Visitor& v) {
    using S = StabilitySection;
    v("max_skipped_steps",
      &S::max_skipped_steps,
      "non-finite steps in a row before the run stops",
      at_least(0));
    v("spike_action",
      &S::spike_action,
      "on a loss spike: rollback = back to the newest checkpoint, past the data that led here; "
      "anticipate = the same, then anticipatory routing (model.routing_delay) for "
      "anticipatory_steps steps");
    v("spike_deviations",
      &S::spike_deviations,
      "a spike lies this many standard deviations above the running mean of the loss ...",
      more_than(0));
    v("spike_rise", &S::spike_rise, "... and this many nats above it ...", at_least(0));
    v("spike_patience", &S::spike_patience, "... this many steps in a row", at_least(1));
    v("spike_memory_steps",
      &S::spike_memory_steps,
      "memory of the running mean; nothing is a spike before that many steps",
      at_least(2));
    v("max_rollbacks",
      &S::max_rollbacks,
      "rollbacks of a run before it stops with an error",
      at_least(0));
    v("anticipatory_steps",
      &S::anticipatory_steps,
      "steps that anticipatory routing stays on after a spike",
      at_least(1));
    v("alarms", &S::alarms, "on numbers of metrics.jsonl");
  }
};

/// Detects loss spikes by an exponential running mean and variance of the loss. Losses of spikes do
/// not enter them.
class SpikeDetector {
 public:
  explicit SpikeDetector(const StabilitySection& config) : config_(config) {}

  /// To be called with the loss of every step; true when it completes a spike.
  bool spiked(double loss);

  double mean() const { return state_.mean; }
  double deviation() const;

  struct State {
    double mean = 0, variance = 0;
    int64_t steps = 0;  ///< that entered the mean
    int64_t above = 0;  ///< steps in a row above the threshold
  };
  const State& state() const { return state_; }
  void restore(const State& state) { state_ = state; }

 private:
  StabilitySection config_;
  State state_;
};

}  // namespace braid
