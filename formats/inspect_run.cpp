#include <algorithm>

#include "checkpoint/history.h"
#include "checkpoint/manifest.h"
#include "core/error.h"
#include "formats/inspect_kinds.h"
#include "run/metrics.h"
#include "run/run_folder.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

// The entries of a folder whose names pass the filter, sorted.
template <class Predicate>
std::vector<fs::path> entries(const fs::path& folder, Predicate passes) {
  std::vector<fs::path> result;
  if (fs::is_directory(folder)) {
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (passes(entry.path())) {
        result.push_back(entry.path());
      }
    }
  }
  std::sort(result.begin(), result.end());
  return result;
}

// Finished ones, whole or not; leftovers of an interrupted save end in .tmp or .old.
std::vector<fs::path> checkpoints(const RunPaths& run) {
  return entries(run.checkpoints(),
                 [](const fs::path& path) { return checkpoint_step(path).has_value(); });
}

std::vector<fs::path> token_stores(const RunPaths& run) {
  return entries(run.token_stores(),
                 [](const fs::path& path) { return path.extension() == ".tokens"; });
}

struct RunMetrics {
  ordered_json last_step, last_validation;  // null without one
};

// Reads on to the first line that is not as it should be, and throws what is wrong with it.
void read_last_metrics(const fs::path& path, RunMetrics& last) {
  read_metrics(path, [&last](const ordered_json& record) {
    if (is_training_step(record)) {
      last.last_step = record;
    } else if (!record.contains("set")) {
      last.last_validation = record;
    } else {  // of several sets each has its own
      if (last.last_validation.contains("split")) {
        last.last_validation.clear();
      }
      last.last_validation[record.at("set").get<std::string>()] = record;
    }
  });
}

ordered_json checkpoint_line(const fs::path& folder) {
  int64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    bytes += entry.is_regular_file() ? static_cast<int64_t>(entry.file_size()) : 0;
  }
  ordered_json line = {{"checkpoint", folder.filename().string()},
                       {"bytes", bytes},
                       {"complete", true},
                       {"problem", ""}};
  try {
    check_manifest(folder, Check::kSizes);
  } catch (const Error& error) {
    line["complete"] = false;
    line["problem"] = error.what();
  }
  return line;
}

// A run that goes on beside removes its old checkpoints.
template <class Action>
void unless_removed(const fs::path& folder, Action action) {
  try {
    action();
  } catch (const std::exception&) {
    if (fs::exists(folder)) {
      throw;
    }
  }
}

ordered_json token_store_line(const fs::path& path) {
  ordered_json line = {{"token_store", path.filename().string()}};
  try {
    const auto facts = token_store_facts(path);
    for (const auto* key : {"documents", "tokens", "text_bytes"}) {
      line[key] = facts.at(key);
    }
  } catch (const Error& error) {
    line["problem"] = error.what();
  }
  return line;
}

}  // namespace

ordered_json run_facts(const fs::path& path) {
  const RunPaths run{path};
  const auto config = load_run_config(run.config().string(), {});
  ordered_json facts = {{"name", config.run.name}};
  RunMetrics metrics;
  try {
    read_last_metrics(run.metrics(), metrics);
  } catch (const Error& error) {
    facts["metrics_problem"] = error.what();
  }
  facts["step"] = metrics.last_step.is_null() ? ordered_json(0) : metrics.last_step.at("step");
  facts["max_steps"] = config.train.max_steps.steps();
  facts.update(summary(config));
  if (!metrics.last_step.is_null()) {
    facts["last_step"] = metrics.last_step;
  }
  if (!metrics.last_validation.is_null()) {
    facts["last_validation"] = metrics.last_validation;
  }
  facts["token_stores"] = ordered_json::array();
  for (const auto& store : token_stores(run)) {
    facts["token_stores"].push_back(token_store_line(store));
  }
  facts["checkpoints"] = ordered_json::array();
  for (const auto& folder : checkpoints(run)) {
    unless_removed(folder, [&] { facts["checkpoints"].push_back(checkpoint_line(folder)); });
  }
  return facts;
}

void verify_run(const fs::path& path, Verification& verification) {
  const RunPaths run{path};
  verification.check(run.config(), [&] { load_run_config(run.config().string(), {}); });
  verification.check(run.metrics(),
                     [&] { read_metrics(run.metrics(), [](const ordered_json&) {}); });
  for (const auto& store : token_stores(run)) {
    verify_token_store(store, verification);
  }
  for (const auto& folder : checkpoints(run)) {
    unless_removed(folder, [&] { verify_checkpoint(folder, verification); });
    if (!fs::exists(folder)) {
      verification.forget(folder);
    }
  }
}

}  // namespace braid
