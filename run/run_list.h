#pragma once
// The runs that lie in folders, in a few numbers each, and how their configurations differ.
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/config_tree.h"

namespace braid {

/// One run, as its folder tells. Numbers that it does not tell, or not yet, are absent.
struct ListedRun {
  std::filesystem::path folder;
  std::string name;
  std::string state;    ///< running, finished, stopped, or unreadable: config.yaml is not sound
  std::string problem;  ///< what is wrong with config.yaml or metrics.jsonl; empty = nothing
  int64_t step = 0;
  std::optional<int64_t> max_steps, tokens;
  std::optional<double> loss;  ///< of the last step
  std::optional<double>
      validation_loss;  ///< the lowest; of several sets that of checkpoint.best_by
  std::optional<double> tokens_per_second;  ///< median of the last hundred steps
  int64_t bytes = 0;                        ///< of all its files
  std::string checkpoint;                   ///< name of the newest complete one; empty = none
  ConfigNode config;                        ///< every key
};

/// Whether this is the folder of a run that has begun.
bool is_run(const std::filesystem::path& folder);

/// Each of `folders` that is a run, and the runs that lie in the others, by path. Throws Error for
/// a folder that does not exist.
std::vector<std::filesystem::path> run_folders(const std::vector<std::filesystem::path>& folders);

/// Lists the runs of run_folders(). Whatever is wrong with a run stands in its `problem`.
std::vector<ListedRun> list_runs(const std::vector<std::filesystem::path>& folders);

/// What runs can be sorted by, and a sort by one of them: names ascending, losses from the lowest,
/// other numbers from the largest; runs without the number come last.
std::vector<std::string> run_orders();
void sort_runs(std::vector<ListedRun>& runs, const std::string& order);

/// One configuration key that runs have set differently, with its value in each of them, "" where
/// a run's configuration does not have it.
struct RunDifference {
  std::string key;
  std::vector<std::string> values;
};
/// The keys in which readable runs differ; run.name and run.output_dir, which always may, are not
/// among them.
std::vector<RunDifference> differences_of(const std::vector<ListedRun>& runs);

/// For readers and for json_text().
std::string runs_table(const std::vector<ListedRun>& runs);
nlohmann::ordered_json runs_json(const std::vector<ListedRun>& runs);

}  // namespace braid
