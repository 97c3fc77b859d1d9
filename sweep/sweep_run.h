#pragma once
// The arms of a sweep and their runs, as configurations.
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "plan/plan.h"
#include "run/config.h"
#include "sweep/sweep_config.h"

namespace braid {

/// What is compared: a configuration that lacks its seed.
struct SweepArm {
  std::size_t index = 0;
  std::string name;
  ConfigNode tree;  ///< of a run, without its name, folder and seed
  TuneSection tune;
};

/// Every arm at every point of the grid. Throws Error for a base arm, or an arm of a criterion,
/// that does not exist.
std::vector<SweepArm> sweep_arms(const SweepConfig& sweep);

/// What a run takes from the machine.
struct RunCost {
  double flops = 0;         ///< of the whole run
  double seconds = 0;       ///< the same on cores of the given speed
  double memory_bytes = 0;  ///< of all ranks, estimated
  int64_t cores = 1;
  int64_t steps = 0, tokens = 0;
};

struct SweepRun {
  std::string name;                  ///< of its folder
  std::size_t arm = 0;               ///< index
  std::optional<std::size_t> value;  ///< index into the values that the arm is tuned over
  std::size_t seed_index = 0;        ///< into the sweep's seeds
  RunConfig config;
  RunCost cost;

  bool tunes(const SweepArm& of) const {
    return value && static_cast<int64_t>(seed_index) < of.tune.seeds;
  }
};

/// The folder that the sweep's runs lie in.
std::filesystem::path runs_folder(const SweepConfig& sweep);

/// Every run that the sweep may need: of an arm that is tuned, one for each value and seed. In the
/// order in which they are to run: tuning first, then seed by seed. Throws Error naming the arm
/// whose configuration cannot be.
std::vector<SweepRun> sweep_runs(const SweepConfig& sweep,
                                 const std::vector<SweepArm>& arms,
                                 const PlannedSpeed& speed);

}  // namespace braid
