#include <algorithm>
#include <sstream>

#include "checkpoint/manifest.h"
#include "checkpoint/strict_json.h"
#include "core/error.h"
#include "core/file.h"
#include "formats/inspect_kinds.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

// Those of a folder whose names pass, in their order.
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

// Finished ones, whole or not; what an interrupted save left ends in .tmp or .old.
std::vector<fs::path> checkpoints(const fs::path& run) {
  return entries(run / "checkpoints", [](const fs::path& path) {
    return path.filename().string().starts_with("step-") && path.extension().empty();
  });
}

std::vector<fs::path> token_stores(const fs::path& run) {
  return entries(run / "data", [](const fs::path& path) { return path.extension() == ".tokens"; });
}

struct RunMetrics {
  ordered_json last_step, last_validation;  // null without one
};

// Reads on to the first line that is not as it should be, and throws what is wrong with it.
void read_metrics(const fs::path& path, RunMetrics& metrics) {
  const std::string contents = read_file(path);
  std::istringstream lines(contents);
  int64_t last_step = 0, last_line_step = 0, number = 0;
  for (std::string line; std::getline(lines, line);) {
    const std::string where = text(path.string(), ":", ++number);
    require(!lines.eof(),
            where,
            ": the last line is cut off: the run was stopped while it was written; braid train "
            "removes it");
    const auto strict = parse_strict_json(line, where);
    const auto& step = json_field(strict, "step", where);
    require(
        step.is_number_integer(), where, ": step is ", step.dump(), ", expected a whole number");
    const auto this_step = step.get<int64_t>();
    const auto record = ordered_json::parse(line);  // for people, in the order written
    const bool is_step = !record.contains("split");
    require(is_step ? this_step > last_step : this_step >= last_line_step,
            where,
            ": step ",
            this_step,
            " comes after step ",
            is_step ? last_step : last_line_step);
    last_step = is_step ? this_step : last_step;
    last_line_step = this_step;
    (is_step ? metrics.last_step : metrics.last_validation) = record;
  }
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
  const auto config = load_run_config((path / "config.yaml").string(), {});
  ordered_json facts = {{"name", config.run.name}};
  RunMetrics metrics;
  try {
    read_metrics(path / "metrics.jsonl", metrics);
  } catch (const Error& error) {
    facts["metrics_problem"] = error.what();
  }
  facts["step"] = metrics.last_step.is_null() ? ordered_json(0) : metrics.last_step.at("step");
  facts["max_steps"] = config.train.max_steps;
  facts.update(summary(config));
  if (!metrics.last_step.is_null()) {
    facts["last_step"] = metrics.last_step;
  }
  if (!metrics.last_validation.is_null()) {
    facts["last_validation"] = metrics.last_validation;
  }
  facts["token_stores"] = ordered_json::array();
  for (const auto& store : token_stores(path)) {
    facts["token_stores"].push_back(token_store_line(store));
  }
  facts["checkpoints"] = ordered_json::array();
  for (const auto& folder : checkpoints(path)) {
    facts["checkpoints"].push_back(checkpoint_line(folder));
  }
  return facts;
}

void verify_run(const fs::path& path, Verification& verification) {
  verification.check(path / "config.yaml",
                     [&path] { load_run_config((path / "config.yaml").string(), {}); });
  verification.check(path / "metrics.jsonl", [&path] {
    RunMetrics metrics;
    read_metrics(path / "metrics.jsonl", metrics);
  });
  for (const auto& store : token_stores(path)) {
    verify_token_store(store, verification);
  }
  for (const auto& folder : checkpoints(path)) {
    verify_checkpoint(folder, verification);
  }
}

}  // namespace braid
