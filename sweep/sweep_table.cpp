// What a sweep makes of its runs: the comparison, its files while runs go on, and the record for
// later ones.
#include <algorithm>

#include "core/error.h"
#include "report/comparison_files.h"
#include "run/run_list.h"
#include "sweep/sweep.h"

namespace braid {

RunCurves Sweep::curves_of(const Job& job) const {
  const auto folder = folder_of(job);
  RunCurves curves;
  if (job.standing.state != RunStanding::State::kOther || job.state != State::kWaiting) {
    if (is_run(folder)) {
      curves = read_run(folder);
    }
  }
  curves.folder = folder;
  curves.name = job.run.name;
  curves.seed = job.run.config.run.seed;
  curves.config = tree_of(job.run.config);
  curves.max_steps = job.run.config.train.max_steps;
  if (job.state == State::kFailed) {
    curves.state = "failed";
    curves.problem = job.error;
  } else {
    curves.state = job.state == State::kFinished  ? "finished"
                   : job.state == State::kRunning ? "running"
                                                  : "stopped";
  }
  return curves;
}

// Of the values that an arm is tuned over, the best one's runs.
bool Sweep::is_compared(const Job& job) const {
  const auto& chosen = chosen_[job.run.arm];
  return !job.run.value || (chosen && chosen->value == job.run.value);
}

Comparison Sweep::comparison() const {
  std::vector<ArmRuns> arms;
  for (const auto& arm : arms_) {
    const auto& chosen = chosen_[arm.index];
    auto& runs = arms.emplace_back(ArmRuns{arm.name, {}, chosen ? chosen->note : ""});
    for (const auto& job : jobs_) {
      if (job.run.arm == arm.index && is_compared(job)) {
        runs.runs.push_back(curves_of(job));
      }
    }
  }
  auto comparison =
      compare(std::move(arms), judge_of(config_.judge), config_.base_arm, config_.title);
  add_numbers(comparison, config_.numbers.all);
  check_criteria(comparison, config_.criteria);
  return comparison;
}

SweepRecord Sweep::record() const {
  SweepRecord record{.title = config_.title,
                     .base_arm = config_.base_arm,
                     .judge = config_.judge,
                     .numbers = config_.numbers,
                     .criteria = config_.criteria};
  for (const auto& arm : arms_) {
    const auto& chosen = chosen_[arm.index];
    auto& recorded =
        record.arms.emplace_back(RecordedArm{.name = arm.name, .note = chosen ? chosen->note : ""});
    for (const auto& job : jobs_) {
      if (job.run.arm == arm.index && is_compared(job)) {
        recorded.runs.push_back(job.run.name);
      }
    }
  }
  return record;
}

// A table that cannot be made yet, or a full disk, ends no run.
void Sweep::write_table_so_far() {
  try {
    write_sweep_record(config_.output, record());
    auto table = comparison();
    table.notes.insert(table.notes.begin(), "the sweep goes on: " + counts());
    write_comparison(table, config_.output);
  } catch (const std::exception& error) {
    console_->line(text("no table so far: ", error.what()));
  }
}

}  // namespace braid
