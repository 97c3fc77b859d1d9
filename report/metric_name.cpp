#include "report/metric_name.h"

#include <algorithm>
#include <set>
#include <string_view>

#include "core/nearest.h"

namespace braid {

MetricName MetricName::of(const std::string& name) {
  constexpr std::string_view kValidation = "validation/";
  if (!name.starts_with(kValidation)) {
    return {.key = name};
  }
  const auto rest = name.substr(kValidation.size());
  const auto slash = rest.rfind('/');
  return slash == std::string::npos
             ? MetricName{rest, "", true}
             : MetricName{rest.substr(slash + 1), rest.substr(0, slash), true};
}

MetricName MetricName::settled(const std::vector<const RunCurves*>& runs) const {
  auto name = *this;
  name.of_validation |= !set.empty() || std::ranges::none_of(runs, [this](const RunCurves* run) {
    return run->training_series(key) != nullptr;
  });
  return name;
}

const Series* series_called(const RunCurves& run,
                            const MetricName& name,
                            const std::string& judged_set) {
  if (!name.of_validation) {
    return run.training_series(name.key);
  }
  const auto& set = name.set.empty() ? judged_set : name.set;
  return run.validation_series(set.empty() ? run.judged_set() : set, name.key);
}

std::string nearest_metric(const MetricName& name, const std::vector<const RunCurves*>& runs) {
  std::set<std::string> keys;
  const bool is_of_training = !name.of_validation || name.set.empty();
  for (const auto* run : runs) {
    for (const auto& series : run->training) {
      if (is_of_training) {
        keys.insert(series.key);
      }
    }
    for (const auto& [set, all] : run->validation) {
      for (const auto& series : all) {
        if (name.set.empty() || name.set == set) {
          keys.insert(series.key);
        }
      }
    }
  }
  return nearest_name(name.key, {keys.begin(), keys.end()});
}

}  // namespace braid
