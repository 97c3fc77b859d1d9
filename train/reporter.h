#pragma once
#include <array>
#include <chrono>
#include <memory>
#include <string>

#include "data/prepare.h"
#include "inference/evaluate.h"
#include "run/run_folder.h"
#include "run/threads.h"
#include "train/step_profile.h"
#include "train/step_result.h"
#include "train/text_samples.h"
#include "train/training_state.h"

namespace braid {

/// What a run reports of itself: metrics.jsonl, the terminal, log.txt, profile.json. Every rank has
/// one; only rank 0's writes.
class Reporter {
 public:
  Reporter(const RunConfig& config,
           const ProcessGrid& grid,
           RunFolder& folder,
           const TrainingState& state);

  /// The run's start: ranks, model, data; parameter groups unless it is resumed.
  void describe_run(const PreparedData& data, const Threads& threads, bool resumed);

  void begin_step();
  /// Returns the step's record in metrics.jsonl. Of what is not the same on every rank, such as
  /// times, rank 0's is written.
  std::vector<Metrics::Value> end_step(const StepResult& result);
  /// `set`: the name of the texts, empty where they have none.
  void validation(const std::string& set, const Evaluation& result);

  void samples(const std::vector<WrittenText>& texts);

  /// Measures from here on where the steps' time goes; report_profile() then writes it.
  void start_profile();
  void report_profile();

 private:
  std::vector<Metrics::Value> record_of(const StepResult& result, double seconds) const;
  void write_expert_loads(const StepResult& result);
  void show_progress(const StepResult& result, double seconds);
  void report_memory(const StepResult& result);
  void report_absent_gradients(const StepResult& result);

  const RunConfig& config_;
  const ProcessGrid& grid_;
  RunFolder& folder_;
  const TrainingState& state_;
  std::unique_ptr<StepProfile> profile_;
  std::chrono::steady_clock::time_point step_start_;
  double seconds_per_step_ = 0;              // running mean
  std::array<int64_t, 2> measured_shape_{};  // whose memory was reported
  TrainedParts looked_for_gradients_of_{};   // in a step that trained these
};

}  // namespace braid
