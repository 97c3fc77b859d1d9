#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"

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

}  // namespace braid
