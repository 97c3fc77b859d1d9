#include "run/run_list.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <map>

#include "checkpoint/history.h"
#include "core/config_edit.h"
#include "core/error.h"
#include "core/folder_lock.h"
#include "run/config.h"
#include "run/memory.h"
#include "run/metrics.h"
#include "run/run_folder.h"
#include "run/table.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

// Files may vanish meanwhile: a run that trains removes its old checkpoints.
int64_t bytes_below(const fs::path& folder) {
  int64_t bytes = 0;
  std::error_code vanished;
  fs::recursive_directory_iterator entry(folder, vanished), end;
  while (!vanished && entry != end) {
    std::error_code gone;
    if (entry->is_regular_file(gone) && !entry->is_symlink(gone)) {
      const auto size = entry->file_size(gone);
      bytes += gone ? 0 : static_cast<int64_t>(size);
    }
    entry.increment(vanished);
  }
  return bytes;
}

// What metrics.jsonl says, read on to the first line that is not as it should be.
class MetricsSummary {
 public:
  explicit MetricsSummary(std::string set) : set_(std::move(set)) {}

  void add(const ordered_json& record) {
    if (is_training_step(record)) {
      step_ = record.at("step").get<int64_t>();
      loss_ = number(record, "loss");
      tokens_ = number(record, "tokens");
      if (const auto speed = number(record, "tokens_per_second")) {
        speeds_.push_back(*speed);
      }
    } else if (record.at("split") == "validation" && belongs(record)) {
      if (const auto loss = number(record, "loss"); loss && (!best_ || *loss < *best_)) {
        best_ = loss;
      }
    }
  }

  void write(ListedRun& run) const {
    run.step = step_;
    run.loss = loss_;
    run.validation_loss = best_;
    if (tokens_) {
      run.tokens = static_cast<int64_t>(*tokens_);
    }
    if (!speeds_.empty()) {
      constexpr std::size_t kSteps = 100;
      std::vector<double> last(
          speeds_.end() - static_cast<std::ptrdiff_t>(std::min(kSteps, speeds_.size())),
          speeds_.end());
      const auto middle = last.begin() + static_cast<std::ptrdiff_t>(last.size() / 2);
      std::nth_element(last.begin(), middle, last.end());
      run.tokens_per_second =
          last.size() % 2 == 1 ? *middle : (*middle + *std::max_element(last.begin(), middle)) / 2;
    }
  }

 private:
  static std::optional<double> number(const ordered_json& record, const char* key) {
    const auto found = record.find(key);
    return found != record.end() && found->is_number() ? std::optional(found->get<double>())
                                                       : std::nullopt;
  }

  // Without a name, the set that comes first.
  bool belongs(const ordered_json& record) {
    const auto set = record.value("set", "");
    if (set_.empty()) {
      set_ = set;
    }
    return set == set_;
  }

  std::string set_;
  int64_t step_ = 0;
  std::optional<double> loss_, tokens_, best_;
  std::vector<double> speeds_;
};

ListedRun listed(const fs::path& folder) {
  const RunPaths paths{folder};
  ListedRun run;
  run.folder = folder;
  run.name = folder.filename().string();
  run.bytes = bytes_below(folder);
  const bool is_running = FolderLock::is_held(folder);
  try {
    run.config = read_config_tree(paths.config().string(), {});
    run.name = scalar_at(run.config, "run.name");
    run.max_steps = std::atoll(scalar_at(run.config, "train.max_steps").c_str());
  } catch (const std::exception& error) {
    run.problem = error.what();
    run.state = "unreadable";
    return run;
  }
  CheckpointSection checkpoint;
  checkpoint.best_by = scalar_at(run.config, "checkpoint.best_by");
  MetricsSummary summary(best_by(checkpoint).set);
  try {
    if (fs::exists(paths.metrics())) {
      read_metrics(paths.metrics(),
                   [&summary](const ordered_json& record) { summary.add(record); });
    }
  } catch (const std::exception& error) {
    // A line may be on its way.
    run.problem = is_running ? "" : error.what();
  }
  summary.write(run);
  if (const auto newest = newest_complete_checkpoint(paths.checkpoints())) {
    run.checkpoint = newest->filename().string();
    run.step = std::max(run.step, checkpoint_step(*newest).value_or(0));
  }
  run.state = is_running ? "running" : run.step >= run.max_steps ? "finished" : "stopped";
  return run;
}

// "a.b" to its value on one line, for every key.
void flatten(const ConfigNode& node,
             const std::string& path,
             std::map<std::string, std::string>& into) {
  if (node.kind != ConfigNode::Kind::kMapping) {
    into[path] = inline_yaml_text(node);
    return;
  }
  for (const auto& [key, value] : node.entries) {
    flatten(value, path.empty() ? key : path + "." + key, into);
  }
}

std::string decimal(const std::optional<double>& value, const char* format) {
  if (!value) {
    return "-";
  }
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, format, *value);
  return buffer;
}

template <class Value>
ordered_json or_null(const std::optional<Value>& value) {
  return value ? ordered_json(*value) : ordered_json();
}

// Sorts from the smallest; runs without a number come last.
double rank_of(const std::optional<double>& value) {
  return value && std::isfinite(*value) ? *value : std::numeric_limits<double>::infinity();
}

double rank_of_largest(const std::optional<double>& value) {
  return rank_of(value ? std::optional(-*value) : std::nullopt);
}

}  // namespace

bool is_run(const fs::path& folder) {
  const RunPaths run{folder};
  std::error_code unreadable;
  return fs::is_regular_file(run.config(), unreadable) &&
         (fs::exists(run.metrics(), unreadable) || fs::exists(run.log(), unreadable) ||
          fs::exists(run.checkpoints(), unreadable));
}

std::vector<fs::path> run_folders(const std::vector<fs::path>& folders) {
  std::vector<fs::path> found;
  for (const auto& folder : folders) {
    require(fs::is_directory(folder),
            folder.string(),
            ": no such folder; expected runs, or folders that hold runs");
    if (is_run(folder)) {
      found.push_back(folder);
      continue;
    }
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (is_run(entry.path())) {
        found.push_back(entry.path());
      }
    }
  }
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

std::vector<ListedRun> list_runs(const std::vector<fs::path>& folders) {
  std::vector<ListedRun> runs;
  for (const auto& folder : run_folders(folders)) {
    runs.push_back(listed(folder));
  }
  return runs;
}

std::vector<std::string> run_orders() {
  return {"name", "state", "step", "tokens", "loss", "validation", "speed", "size"};
}

void sort_runs(std::vector<ListedRun>& runs, const std::string& order) {
  const auto by = [&runs](const auto& key) {
    std::stable_sort(runs.begin(), runs.end(), [&key](const ListedRun& a, const ListedRun& b) {
      return key(a) < key(b);
    });
  };
  if (order == "name") {
    by([](const ListedRun& run) { return run.name; });
  } else if (order == "state") {
    by([](const ListedRun& run) { return run.state; });
  } else if (order == "step") {
    by([](const ListedRun& run) { return -run.step; });
  } else if (order == "tokens") {
    by([](const ListedRun& run) { return -run.tokens.value_or(-1); });
  } else if (order == "loss") {
    by([](const ListedRun& run) { return rank_of(run.loss); });
  } else if (order == "validation") {
    by([](const ListedRun& run) { return rank_of(run.validation_loss); });
  } else if (order == "speed") {
    by([](const ListedRun& run) { return rank_of_largest(run.tokens_per_second); });
  } else if (order == "size") {
    by([](const ListedRun& run) { return -run.bytes; });
  } else {
    fail("[sort_runs] no order '", order, "'");
  }
}

std::vector<RunDifference> differences_of(const std::vector<ListedRun>& runs) {
  std::vector<std::map<std::string, std::string>> values(runs.size());
  std::map<std::string, bool> keys;  // of all runs
  for (std::size_t i = 0; i < runs.size(); ++i) {
    flatten(runs[i].config, "", values[i]);
    for (const auto& [key, value] : values[i]) {
      keys[key] = true;
    }
  }
  std::vector<RunDifference> result;
  for (const auto& [key, unused] : keys) {
    if (key.empty() || key == "run.name" || key == "run.output_dir") {
      continue;
    }
    RunDifference difference{key, {}};
    std::optional<std::string> first;  // of the runs that can be read
    bool differs = false;
    for (std::size_t i = 0; i < runs.size(); ++i) {
      const auto found = values[i].find(key);
      const auto& value =
          difference.values.emplace_back(found == values[i].end() ? "" : found->second);
      if (runs[i].state != "unreadable") {
        differs |= first && *first != value;
        first = first.value_or(value);
      }
    }
    if (differs) {
      result.push_back(std::move(difference));
    }
  }
  return result;
}

std::string runs_table(const std::vector<ListedRun>& runs) {
  TextTable table({"run",
                   "state",
                   ">step",
                   ">tokens",
                   ">loss",
                   ">best validation",
                   ">tokens/s",
                   ">size",
                   "newest checkpoint"});
  std::string problems;
  for (const auto& run : runs) {
    table.add({run.folder.string(),
               run.state,
               run.state == "unreadable" ? "-" : text(run.step, "/", run.max_steps.value_or(0)),
               run.tokens ? std::to_string(*run.tokens) : "-",
               decimal(run.loss, "%.4f"),
               decimal(run.validation_loss, "%.4f"),
               decimal(run.tokens_per_second, "%.0f"),
               bytes_text(run.bytes),
               run.checkpoint.empty() ? "-" : run.checkpoint});
    problems += run.problem.empty() ? "" : "problem: " + run.problem + "\n";
  }
  std::string result = table.text() + problems;
  const auto differences = differences_of(runs);
  if (differences.empty()) {
    return result;
  }
  std::vector<std::string> columns = {"differs"};
  for (const auto& run : runs) {
    columns.push_back(run.folder.filename().string());
  }
  TextTable differing(columns);
  for (const auto& [key, values] : differences) {
    std::vector<std::string> row = {key};
    row.insert(row.end(), values.begin(), values.end());
    differing.add(row);
  }
  return result + "\n" + differing.text();
}

ordered_json runs_json(const std::vector<ListedRun>& runs) {
  auto list = ordered_json::array();
  for (const auto& run : runs) {
    list.push_back({{"folder", run.folder.string()},
                    {"name", run.name},
                    {"state", run.state},
                    {"step", run.step},
                    {"max_steps", or_null(run.max_steps)},
                    {"tokens", or_null(run.tokens)},
                    {"loss", or_null(run.loss)},
                    {"best_validation_loss", or_null(run.validation_loss)},
                    {"tokens_per_second", or_null(run.tokens_per_second)},
                    {"bytes", run.bytes},
                    {"newest_checkpoint", run.checkpoint},
                    {"problem", run.problem}});
  }
  auto differing = ordered_json::array();
  for (const auto& [key, values] : differences_of(runs)) {
    differing.push_back({{"key", key}, {"values", values}});
  }
  return {{"runs", list}, {"differences", differing}};
}

}  // namespace braid
