#pragma once
// Alarms on what metrics.jsonl gets: lines in the log, or the end of the run.
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "run/alarm_config.h"
#include "run/metrics.h"

namespace braid {

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
  Alarms() = default;
  explicit Alarms(std::vector<AlarmRule> rules) : rules_(std::move(rules)) {}

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
