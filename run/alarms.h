#pragma once
// Alarms on what metrics.jsonl gets: lines in the log, or the end of the run.
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"
#include "run/metrics.h"

namespace braid {

enum class AlarmAction { kWarn, kStop };
inline auto enum_names(AlarmAction) {
  return std::array{EnumName{"warn", AlarmAction::kWarn}, EnumName{"stop", AlarmAction::kStop}};
}

/// One alarm: a number of training steps' records and what is too much or too little of it.
struct AlarmRule {
  std::string metric;
  std::optional<double> above = {}, below = {};
  int64_t reports = 1;
  AlarmAction action = AlarmAction::kWarn;

  /// Whether the key is the metric's, or one of several that begin with it and a dot.
  bool is_about(const std::string& key) const;
  bool operator==(const AlarmRule&) const = default;

  template <class Visitor>
  static void fields(Visitor& v) {
    using A = AlarmRule;
    v("metric",
      &A::metric,
      "key of training steps in metrics.jsonl, or what several have before a dot",
      required);
    v("above", &A::above, "the alarm is on while the number is above this ...", absent_as("off"));
    v("below", &A::below, "... or below this ...", absent_as("off"));
    v("for", &A::reports, "... in that many reports of it in a row", at_least(1));
    v("action",
      &A::action,
      "warn = a line when it begins and one when it ends; stop = save, and end with status 3");
  }
};

/// Those whose thresholds hold for any run (docs/monitors.md).
std::vector<AlarmRule> default_alarms();

/// For how many reports in a row numbers have been too large or too small; part of the state that
/// checkpoints hold.
struct AlarmState {
  struct Count {
    std::string alarm;  ///< "attention_logit_max.csa above 100"
    int64_t reports = 0;

    template <class Visitor>
    static void fields(Visitor& v) {
      v("alarm", &Count::alarm, "key and condition");
      v("reports", &Count::reports, "in a row", at_least(0));
    }
  };
  std::vector<Count> counts;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("counts", &AlarmState::counts, "of what is not as it should be");
  }
};

class Alarms {
 public:
  explicit Alarms(std::vector<AlarmRule> rules = {}) : rules_(std::move(rules)) {}

  struct Heard {
    std::vector<std::string> lines;  ///< what to tell people
    bool stops = false;              ///< a `stop` began; its count begins anew
  };
  /// To be called with the record of each training step. What is not finite counts as too large and
  /// too small; a key that is not in the record is as it was.
  Heard hear(int64_t step, const std::vector<Metrics::Value>& record);

  AlarmState state() const;
  void restore(const AlarmState& state);

 private:
  std::vector<AlarmRule> rules_;
  std::map<std::string, int64_t> reports_;
};

}  // namespace braid
