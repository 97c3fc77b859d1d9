#pragma once
#include <limits>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "checkpoint/store.h"
#include "tests/loading/corpus.h"
#include "train/trainer.h"

namespace braid::testing {

/// Every part of the design (window, CSA and HCA layers, hash and learned routing, mHC, MTP) at a
/// size where a step takes milliseconds.
ModelConfig tiny_model();

/// Runs in a folder of their own on a corpus of short documents.
class TinyRun : public CorpusTest {
 protected:
  TinyRun();

  /// A run of six steps of two micro-batches that keeps one checkpoint.
  RunConfig config(const std::string& name) const;

  std::filesystem::path corpus_;
};

struct Trained {
  TrainingEnd end;
  std::string output;  ///< what the run told on standard output
};
/// What one process does: opens the run, trains at most `steps` steps and saves.
Trained train(const RunConfig& config,
              int64_t steps = std::numeric_limits<int64_t>::max(),
              const ResumeFrom& from = {},
              at::Device device = at::kCPU);

/// metrics.jsonl without a step's timings and the bytes that ranks send, which may differ.
std::vector<nlohmann::json> metrics_but_timings(const RunConfig& config);
/// The metrics of one step.
nlohmann::json metrics_of_step(const RunConfig& config, int64_t step);

std::filesystem::path newest_checkpoint(const RunConfig& config);

/// Equal metrics, and newest checkpoints of equal tensors, bit for bit, and equal state.
void expect_same_run(const RunConfig& got, const RunConfig& want);

/// The same where sums may round otherwise: numbers of metrics and tensors within these distances,
/// of each number relative to its size, or to 1e-3 where it is smaller; all else is equal.
struct RunTolerance {
  double metrics, tensors;
};
void expect_close_run(const RunConfig& got, const RunConfig& want, RunTolerance tolerance);

}  // namespace braid::testing
