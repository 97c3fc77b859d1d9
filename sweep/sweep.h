#pragma once
// A sweep from its first run to its table.
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/folder_lock.h"
#include "report/comparison.h"
#include "run/console.h"
#include "sweep/child_process.h"
#include "sweep/run_record.h"
#include "sweep/sweep_config.h"
#include "sweep/sweep_record.h"
#include "sweep/sweep_run.h"

namespace braid {

/// What the sweep's runs may take of the machine together.
struct SweepBudget {
  int64_t cores = 1;
  double memory_bytes = 0;  ///< 0 = not known, no limit
  int64_t at_once = 1;      ///< runs
};
/// The keys `cores`, `memory` and `at_once`, where they say so that of this machine.
SweepBudget budget_of(const SweepConfig& config);

/// The runs of a sweep, as processes of `braid train`, one for each, as many at a time as the
/// budget allows. A run that needs more than the whole budget runs alone.
class Sweep {
 public:
  /// Reads all configurations and the inputs of every run, and looks how far runs are that exist.
  /// Throws Error for what cannot be, before anything is run or written. `speed` is that of the
  /// threads of a run.
  Sweep(SweepConfig config, const PlannedSpeed& speed);
  ~Sweep();

  /// For people: every run with what it takes and how far it is, and what the whole will take.
  std::string plan_text() const;

  /// Runs what is not finished. `program` is that of braid. A run that fails ends no other one.
  /// Whenever runs have ended and others go on, the comparison's files are written again.
  /// Throws Interrupted once the process was asked to stop and every run has saved.
  void run(const std::filesystem::path& program);

  /// The runs that ended with an error.
  int64_t failed() const;
  /// Of the runs as they are, with the sweep's numbers and criteria.
  Comparison comparison() const;

 private:
  enum class State {
    kWaiting,  ///< to be run, unless it is of a value that its arm is not tuned to
    kRunning,
    kFinished,
    kFailed
  };
  struct Job {
    SweepRun run;
    std::vector<TextDigest> inputs = {};
    State state = State::kWaiting;
    RunStanding standing = {};
    std::string error = {};
    std::unique_ptr<ChildProcess> process = {};
    std::uintmax_t output_before = 0;  ///< bytes of its output.txt when it was started
    std::chrono::steady_clock::time_point started = {};
    int64_t steps = 0, steps_before = 0;  ///< done; when it was started
  };

  std::filesystem::path folder_of(const Job& job) const;
  bool is_needed(const Job& job) const;
  bool is_ready(const Job& job) const;
  bool fits(const Job& job) const;
  void start(Job& job, const std::filesystem::path& program);
  void start_what_fits(const std::filesystem::path& program);
  void finish(Job& job, int status);
  void reap();
  void choose(std::size_t arm);
  void choose_all();
  void stop_all();
  void show_status();
  bool is_done() const;
  std::string counts() const;
  std::string time_left() const;
  double flops_left() const;
  std::optional<double> measured_seconds_per_flop() const;
  std::string state_text(const Job& job) const;
  int64_t at_once() const;
  RunCurves curves_of(const Job& job) const;
  bool is_compared(const Job& job) const;
  SweepRecord record() const;
  void write_table_so_far();
  Comparison values_compared(std::size_t arm) const;

  SweepConfig config_;
  SweepBudget budget_;
  std::vector<SweepArm> arms_;
  std::vector<Job> jobs_;
  /// Of the arms that are tuned: the value that is best, and how it was found.
  struct Choice {
    std::optional<std::size_t> value;
    std::string note;
  };
  std::vector<std::optional<Choice>> chosen_;  ///< by arm; nothing while it is not known
  std::unique_ptr<FolderLock> lock_;
  std::unique_ptr<Console> console_;
  std::chrono::steady_clock::time_point began_ = {}, shown_ = {};
  double flops_before_ = 0;  ///< left when this process began
  bool waiting_told_ = false, is_stopping_ = false;
};

}  // namespace braid
