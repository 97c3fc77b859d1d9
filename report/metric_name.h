#pragma once
// A number of metrics.jsonl by its name.
#include <string>
#include <vector>

#include "report/curves.h"

namespace braid {

/// "loss" is of training steps, where any run has it there, else of the validation set that runs
/// are judged by; "validation/loss" is of that set, "validation/SET/loss" of a set with a name.
struct MetricName {
  std::string key = {};
  std::string set = {};        ///< empty = the one that runs are judged by
  bool of_validation = false;  ///< whatever training has

  static MetricName of(const std::string& name);

  /// The same of validation, unless one of these runs has it at training steps.
  MetricName settled(const std::vector<const RunCurves*>& runs) const;
};

/// The series of a settled name, null where the run has none. `judged_set`: empty = the run's own
/// judged_set().
const Series* series_called(const RunCurves& run,
                            const MetricName& name,
                            const std::string& judged_set = "");

/// The metric of these runs that is nearest to a name that none of them has; "" where none is near.
std::string nearest_metric(const MetricName& name, const std::vector<const RunCurves*>& runs);

}  // namespace braid
