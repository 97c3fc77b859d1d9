#include "report/curves.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "checkpoint/history.h"
#include "core/config_edit.h"
#include "core/error.h"
#include "core/folder_lock.h"
#include "plan/plan.h"
#include "run/metrics.h"
#include "run/run_folder.h"
#include "run/run_list.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// The series of this name, made where it is missing. Records have their keys in one order, so that
// the one behind the last is looked at first.
Series& series_called(std::vector<Series>& series, const std::string& key, std::size_t& next) {
  for (std::size_t tried = 0; tried < series.size(); ++tried, ++next) {
    if (series[next % series.size()].key == key) {
      return series[next++ % series.size()];
    }
  }
  return series.emplace_back(Series{key, {}, {}});
}

// Keys of a record that say what it is of.
bool is_label(const std::string& key) {
  return key == "step" || key == "split" || key == "set";
}

class CurveReader {
 public:
  explicit CurveReader(RunCurves& run) : run_(run) {}

  void add(const ordered_json& record) {
    const auto step = record.at("step").get<int64_t>();
    if (is_training_step(record)) {
      add_step(step, record);
      return;
    }
    const auto split = record.value("split", "");
    if (split == "sample") {
      run_.samples.push_back({step, record.value("prompt", ""), record.value("text", "")});
    } else if (split == "validation") {
      add_numbers(step, record, validation(record.value("set", "")), "");
    } else {
      add_numbers(step, record, run_.training, split + ".");
    }
  }

 private:
  void add_step(int64_t step, const ordered_json& record) {
    const auto number = [&record](const char* key) {
      const auto found = record.find(key);
      return found != record.end() && found->is_number() ? found->get<double>() : kNaN;
    };
    run_.steps.push_back(step);
    run_.tokens.push_back(number("tokens"));
    const double seconds = number("step_seconds");
    seconds_ += std::isfinite(seconds) ? seconds : 0;
    run_.seconds.push_back(seconds_);
    add_numbers(step, record, run_.training, "");
  }

  void add_numbers(int64_t step,
                   const ordered_json& record,
                   std::vector<Series>& series,
                   const std::string& prefix) {
    for (const auto& [key, value] : record.items()) {
      if (is_label(key)) {
        continue;
      }
      if (value.is_string()) {
        run_.events.push_back({step, prefix + key, value.get<std::string>()});
      } else if (value.is_number() || value.is_null()) {
        auto& its = series_called(series, prefix + key, next_);
        its.steps.push_back(step);
        its.values.push_back(value.is_null() ? kNaN : value.get<double>());
      }
    }
  }

  std::vector<Series>& validation(const std::string& set) {
    const auto found = std::ranges::find(run_.validation, set, &ValidationCurves::set);
    return found == run_.validation.end()
               ? run_.validation.emplace_back(ValidationCurves{set, {}}).series
               : found->series;
  }

  RunCurves& run_;
  std::size_t next_ = 0;  // see series_called()
  double seconds_ = 0;
};

// What the run had computed after each of its records.
std::vector<double> operations_of(const RunConfig& config, const std::vector<int64_t>& steps) {
  std::vector<double> flops;
  int64_t stage_begins = 0;  // steps before it
  double before = 0;         // operations
  std::size_t i = 0;
  const auto stages = planned_stages(config);
  for (std::size_t s = 0; s < stages.size(); ++s) {
    const auto& stage = stages[s];
    const double of_step = stage.flops() / static_cast<double>(stage.steps);
    const bool is_last = s + 1 == stages.size();  // runs may have been made longer since
    for (; i < steps.size() && (is_last || steps[i] <= stage_begins + stage.steps); ++i) {
      flops.push_back(before + of_step * static_cast<double>(steps[i] - stage_begins));
    }
    stage_begins += stage.steps;
    before += stage.flops();
  }
  return flops;
}

// Whether train.stop_when_worse_for has ended it.
bool stopped_improving(const RunCurves& run) {
  const int64_t patience = std::atoll(scalar_at(run.config, "train.stop_when_worse_for").c_str());
  const auto* losses = run.validation_series(run.judged_set(), "loss");
  if (patience <= 0 || losses == nullptr) {
    return false;
  }
  double best = std::numeric_limits<double>::infinity();
  int64_t worse_for = 0;
  for (const double loss : losses->values) {
    worse_for = loss < best ? 0 : worse_for + 1;
    best = std::min(best, loss);
  }
  return worse_for >= patience;
}

std::string state_of(const RunCurves& run, bool is_running) {
  if (is_running) {
    return "running";
  }
  const auto newest = newest_complete_checkpoint(RunPaths{run.folder}.checkpoints());
  const int64_t saved = newest ? checkpoint_step(*newest).value_or(0) : 0;
  const bool done = std::max(run.last_step(), saved) >= run.max_steps || stopped_improving(run);
  return done ? "finished" : "stopped";
}

const Series* find_series(const std::vector<Series>& series, std::string_view key) {
  const auto found = std::ranges::find(series, key, &Series::key);
  return found == series.end() ? nullptr : &*found;
}

}  // namespace

double RunCurves::position(CurveAxis axis, int64_t step) const {
  if (axis == CurveAxis::kSteps) {
    return static_cast<double>(step);
  }
  const auto after = std::ranges::upper_bound(steps, step) - steps.begin();
  if (after == 0) {
    return 0;
  }
  const auto& values = axis == CurveAxis::kTokens  ? tokens
                       : axis == CurveAxis::kFlops ? flops
                                                   : seconds;
  return values[static_cast<std::size_t>(after - 1)];
}

const Series* RunCurves::training_series(std::string_view key) const {
  return find_series(training, key);
}

const Series* RunCurves::validation_series(std::string_view set, std::string_view key) const {
  const auto found = std::ranges::find(validation, set, &ValidationCurves::set);
  return found == validation.end() ? nullptr : find_series(found->series, key);
}

std::string RunCurves::judged_set() const {
  const auto named = scalar_at(config, "checkpoint.best_by");
  return !named.empty() || validation.empty() ? named : validation.front().set;
}

RunCurves read_run(const fs::path& folder) {
  require(is_run(folder),
          folder.string(),
          ": is no run: it has no config.yaml, or nothing was trained there yet");
  const RunPaths paths{folder};
  RunCurves run{.folder = folder, .name = folder.filename().string()};
  const bool is_running = FolderLock::is_held(folder);
  try {
    run.config = read_config_tree(paths.config().string(), {});
    run.name = scalar_at(run.config, "run.name");
    run.seed = std::atoll(scalar_at(run.config, "run.seed").c_str());
    run.max_steps = std::atoll(scalar_at(run.config, "train.max_steps").c_str());
  } catch (const std::exception& error) {
    run.problem = error.what();
    run.state = "unreadable";
    return run;
  }
  CurveReader reader(run);
  try {
    if (fs::exists(paths.metrics())) {
      read_metrics(paths.metrics(), [&reader](const ordered_json& record) { reader.add(record); });
    }
  } catch (const std::exception& error) {
    run.problem = is_running ? "" : error.what();  // a line may be on its way
  }
  try {
    run.flops = operations_of(load_config<RunConfig>(paths.config().string()).value, run.steps);
  } catch (const std::exception& error) {  // such as a key that this version does not know
    run.flops.assign(run.steps.size(), kNaN);
    run.problem = run.problem.empty() ? error.what() : run.problem;
  }
  run.state = state_of(run, is_running);
  return run;
}

}  // namespace braid
