#pragma once
// What a run's folder tells of it: its configuration, and every number that it wrote over its
// steps.
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "core/config_tree.h"

namespace braid {

/// One number over the steps of a run.
struct Series {
  std::string key;             ///< as in metrics.jsonl: "loss", "gradient_norm.router"
  std::vector<int64_t> steps;  ///< increasing
  std::vector<double> values;  ///< as many; NaN where the run found it not finite
};

/// What is found of one validation set. Without names in data.validation, the set's is "".
struct ValidationCurves {
  std::string set;
  std::vector<Series> series;
};

/// A text that the run wrote to show what it has learned (a record of split "sample").
struct TextSample {
  int64_t step = 0;
  std::string prompt, text;
};

/// Something that happened at a step: a step that was skipped, an alarm.
struct RunEvent {
  int64_t step = 0;
  std::string key;  ///< "skipped"
  std::string text;
};

/// What curves are drawn over.
enum class CurveAxis { kSteps, kTokens, kFlops, kSeconds };

struct RunCurves {
  std::filesystem::path folder;
  std::string name = {};
  int64_t seed = 0;
  /// running, finished, stopped; unreadable: config.yaml is not sound; failed: a sweep's, which
  /// ended with an error.
  std::string state = {};
  std::string problem = {};  ///< that error, or what is wrong with its files; empty = nothing
  ConfigNode config = {};    ///< every key
  int64_t max_steps = 0;

  /// Every training step that has a record, and what had been spent when it was done: tokens read,
  /// operations of the model and of Newton-Schulz as plan/flops.h counts them, seconds of the steps
  /// themselves (validation and saving not counted). Operations are NaN where this version cannot
  /// read the configuration.
  std::vector<int64_t> steps = {};
  std::vector<double> tokens = {}, flops = {}, seconds = {};

  /// Of training steps, in the order in which keys first occur. Records of further splits are here,
  /// too, as "split.key".
  std::vector<Series> training = {};
  std::vector<ValidationCurves> validation = {};  ///< in the order of the sets
  std::vector<TextSample> samples = {};
  std::vector<RunEvent> events = {};

  /// 0 where there is none.
  int64_t last_step() const { return steps.empty() ? 0 : steps.back(); }
  /// Where a step lies on an axis. Between records, as at the record before; 0 before the first.
  double position(CurveAxis axis, int64_t step) const;

  /// Null where there is no such series.
  const Series* training_series(std::string_view key) const;
  const Series* validation_series(std::string_view set, std::string_view key) const;
  /// The set that checkpoint.best_by names, else the first; "" without any.
  std::string judged_set() const;
};

/// Reads the folder of a run in any state, also one that trains: a last line of metrics.jsonl that
/// is half written is left for the next time. Whatever is wrong stands in `problem`, and what was
/// read before it is there. Throws Error where the folder is no run.
RunCurves read_run(const std::filesystem::path& folder);

}  // namespace braid
