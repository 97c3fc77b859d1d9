#pragma once
// The YAML of a sweep. docs/ablations.md shows how to write one.
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/config.h"
#include "report/comparison.h"

namespace braid {

/// A configuration file, relative to the file that names it, as `base:` is.
struct ConfigFile {
  std::string path;

  static constexpr const char* kConfigKind = "path";
  static ConfigFile from_config(const ConfigNode& node,
                                const std::string& path,
                                ConfigPlaces& places);
  ConfigNode to_config() const { return ConfigNode::text(path); }
};

/// One file, or several of which the later ones are overlays.
struct ConfigFileList {
  std::vector<ConfigFile> files;

  static constexpr const char* kConfigKind = "path | [path, ...]";
  static ConfigFileList from_config(const ConfigNode& node,
                                    const std::string& path,
                                    ConfigPlaces& places);
  ConfigNode to_config() const;
};

/// Keys of a run with values, nested or dotted: {model: {residual: hc}} or {model.residual: hc}.
/// What keys there are is known once they are part of a run's configuration.
struct RunKeys {
  ConfigNode tree = ConfigNode::mapping({});  ///< nested

  static constexpr const char* kConfigKind = "{key: value, ...}";
  static RunKeys from_config(const ConfigNode& node, const std::string& path, ConfigPlaces& places);
  ConfigNode to_config() const { return tree; }
};

/// Keys of a run, each with the values that it takes.
struct RunGrid {
  std::vector<std::pair<std::string, std::vector<ConfigNode>>> axes;

  static constexpr const char* kConfigKind = "{key: [value, ...], ...}";
  static RunGrid from_config(const ConfigNode& node, const std::string& path, ConfigPlaces& places);
  ConfigNode to_config() const;
};

/// A key whose best value is found for each arm before arms are compared.
struct TuneSection {
  std::string key;
  RunGrid values_of;  ///< of `key` alone
  int64_t seeds = 1;

  static constexpr const char* kConfigKind = "none | {key: KEY, values: [value, ...], seeds: N}";
  static TuneSection from_config(const ConfigNode& node,
                                 const std::string& path,
                                 ConfigPlaces& places);
  ConfigNode to_config() const;

  bool is_on() const { return !key.empty(); }
  const std::vector<ConfigNode>& values() const { return values_of.axes.front().second; }
};

struct ArmSection {
  ConfigFileList overlays;
  RunKeys set;
  std::optional<TuneSection> own_tune;  ///< instead of the sweep's

  static constexpr const char* kConfigKind = "{overlays: ..., set: ..., tune: ...}";
  static ArmSection from_config(const ConfigNode& node,
                                const std::string& path,
                                ConfigPlaces& places);
  ConfigNode to_config() const;
};

/// Arms by name.
struct ArmSections {
  std::vector<std::pair<std::string, ArmSection>> arms;

  static constexpr const char* kConfigKind = "{name: {overlays: ..., set: ..., tune: ...}, ...}";
  static ArmSections from_config(const ConfigNode& node,
                                 const std::string& path,
                                 ConfigPlaces& places);
  ConfigNode to_config() const;
};

/// "3" stands for 1, 2, 3.
struct SeedList {
  std::vector<int64_t> seeds = {1, 2, 3};

  static constexpr const char* kConfigKind = "number of seeds | [seed, ...]";
  static SeedList from_config(const ConfigNode& node,
                              const std::string& path,
                              ConfigPlaces& places);
  ConfigNode to_config() const;
};

/// Bytes, also in KiB, MiB, GiB, TiB.
struct MemorySize {
  std::optional<int64_t> bytes;  ///< nothing = auto

  static constexpr const char* kConfigKind = "auto | 8GiB | bytes";
  static MemorySize from_config(const ConfigNode& node,
                                const std::string& path,
                                ConfigPlaces& places);
  ConfigNode to_config() const;
};

/// A number, or what is found of the base arm.
struct TargetValue {
  std::optional<double> value;
  bool from_base = false;

  static constexpr const char* kConfigKind = "none | base | number";
  static TargetValue from_config(const ConfigNode& node,
                                 const std::string& path,
                                 ConfigPlaces& places);
  ConfigNode to_config() const;
};

/// Further numbers of each run by name.
struct RunNumbers {
  std::vector<RunNumber> all;

  static constexpr const char* kConfigKind =
      "{name: {metric: ..., take: ..., set: ..., steps: ...}, ...}";
  static RunNumbers from_config(const ConfigNode& node,
                                const std::string& path,
                                ConfigPlaces& places);
  ConfigNode to_config() const;
};

enum class BetterWhen { kByName, kLower, kHigher };
inline auto enum_names(BetterWhen) {
  return std::array{EnumName{"auto", BetterWhen::kByName},
                    EnumName{"lower", BetterWhen::kLower},
                    EnumName{"higher", BetterWhen::kHigher}};
}

enum class JudgedAt { kEnd, kBest };
inline auto enum_names(JudgedAt) {
  return std::array{EnumName{"end", JudgedAt::kEnd}, EnumName{"best", JudgedAt::kBest}};
}

struct JudgeSection {
  std::string metric = "loss";
  std::string validation;
  JudgedAt at = JudgedAt::kEnd;
  BetterWhen better = BetterWhen::kByName;
  TargetValue target;

  template <class Visitor>
  static void fields(Visitor& v) {
    using J = JudgeSection;
    v("metric", &J::metric, "a number of the runs' validation (of training, without validation)");
    v("validation",
      &J::validation,
      "the set of data.validation; empty = that of checkpoint.best_by, else the first");
    v("at", &J::at, "the last value of a run, or its best");
    v("better",
      &J::better,
      "which values are better; auto = higher for accuracies, margins and recall");
    v("target",
      &J::target,
      "the value whose cost in tokens and operations is compared; base = what all runs of the base "
      "arm reach");
  }
};

/// The judge of report/comparison.h.
Judge judge_of(const JudgeSection& section);

struct SweepConfig {
  ConfigFileList config;
  RunKeys set;
  ArmSections arms;
  RunGrid grid;
  std::string base_arm;
  SeedList seeds;
  bool paired = true;
  TuneSection tune;
  JudgeSection judge;
  RunNumbers numbers;
  std::vector<Criterion> criteria;
  std::string title;
  std::string output;
  std::optional<int64_t> cores = {};
  MemorySize memory;
  std::optional<int64_t> at_once = {};
  std::optional<int64_t> threads = {};
  int64_t ranks = 1;
  ConfigPlaces places = {};  ///< of the keys, for messages; no key

  template <class Visitor>
  static void fields(Visitor& v) {
    using S = SweepConfig;
    v("config", &S::config, "what all runs have in common: a run's configuration, then overlays");
    v("set", &S::set, "keys of all runs");
    v("arms", &S::arms, "what is compared; without arms and grid, the configuration alone");
    v("grid", &S::grid, "keys that take each of these values, in every combination, in every arm");
    v("base_arm", &S::base_arm, "the arm that the others are compared with; empty = the first");
    v("seeds", &S::seeds, "of run.seed, for every arm");
    v("paired",
      &S::paired,
      "every arm has the same seeds, so the same initial values and order of the data; false = arm "
      "number i, from 0, adds 1000 i to each");
    v("tune",
      &S::tune,
      "a key whose best value is taken for each arm, judged over its first seeds, before arms are "
      "compared");
    v("judge", &S::judge, "what runs are compared by");
    v("numbers", &S::numbers, "further numbers of each run, as columns of the table");
    v("criteria",
      &S::criteria,
      "what is expected of the comparison; below the table stands whether it holds");
    v("title", &S::title, "of the table; empty = the file's name");
    v("output",
      &S::output,
      "folder of the runs and the table; empty = sweeps/ and the file's name");
    v("cores",
      &S::cores,
      "that runs may use together; auto = those the process may use",
      at_least(1),
      absent_as("auto"));
    v("memory", &S::memory, "that runs may use together; auto = what is available at the start");
    v("at_once",
      &S::at_once,
      "runs that run at the same time; auto = as many as cores and memory allow",
      at_least(1),
      absent_as("auto"));
    v("threads",
      &S::threads,
      "train.threads of every rank; auto = as the runs have it, and 1 where that is 0",
      at_least(1),
      absent_as("auto"));
    v("ranks", &S::ranks, "processes of each run, which mpirun starts", at_least(1));
  }

  /// Throws ConfigError for what single fields cannot tell.
  void validate() const;
};

/// Reads a sweep's file, and the ones it names with `base:`, completed with what follows from its
/// name. Throws Error with the key, file and line.
SweepConfig load_sweep_config(const std::string& path, const std::vector<std::string>& overrides);

}  // namespace braid
