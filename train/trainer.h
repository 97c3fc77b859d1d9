#pragma once
#include <array>
#include <functional>
#include <map>
#include <memory>
#include <string_view>

#include "checkpoint/store.h"
#include "core/folder_lock.h"
#include "data/background_loader.h"
#include "data/prepare.h"
#include "data/tokenizer.h"
#include "model/transformer.h"
#include "optim/optimizer.h"
#include "train/config.h"
#include "train/console.h"
#include "train/evaluate.h"
#include "train/metrics.h"
#include "train/regime.h"
#include "train/spike.h"

namespace braid {

struct Checkpoint;

/// How a training run ended.
enum class TrainingEnd { kFinished, kInterrupted };

/// Where a run starts.
struct ResumeFrom {
  enum class Kind {
    kAuto,  ///< the newest complete checkpoint of the run's folder, if there is one
    kPath,  ///< this checkpoint, of this or another run of the same model
    kNone,  ///< step 0; what the folder holds is moved aside
  };
  Kind kind = Kind::kAuto;
  std::filesystem::path path;
};

/// One training run in one process: everything it holds can be rebuilt from its folder, so that a
/// run that stops at any step continues with the same bits.
class Trainer {
 public:
  /// Prepares the run's folder and data, and takes up the run. Throws Error when another process is
  /// training in the folder.
  explicit Trainer(const RunConfig& config, const ResumeFrom& from = {});
  ~Trainer();

  /// Trains up to config.train.max_steps, or until `interrupted` returns true between two steps;
  /// saves either way.
  TrainingEnd run(const std::function<bool()>& interrupted);

  int64_t step() const { return step_; }

 private:
  struct StepResult {
    Losses losses;  // summed over the micro-batches; total undefined
    LossCounts counts;
    double learning_rate = 0, gradient_norm = 0;
    std::map<std::string_view, double> part_norms;  // by train/parts.h
    std::string not_finite;                         // which loss or parameters; empty = all is
    bool learns_indexer = false;
    std::array<int64_t, 2> shape{};                  // sequences at once, and their length
    int64_t activation_bytes = 0, update_bytes = 0;  // at most, beside what was there before
  };
  StepResult train_step();
  void forward_backward(const std::vector<Batch>& batches, const Regime&, StepResult& result);
  std::vector<at::Tensor> gradients(TrainedPart part) const;
  void measure_gradients(TrainedPart part, StepResult& result);
  void update_routing_biases(const std::vector<at::Tensor>& load_E);
  void freeze_all_but(TrainedPart part);

  // trainer_report.cpp
  void describe() const;
  void report(const StepResult& result, double seconds);
  void report_skipped(const StepResult& result);
  void report_memory(const StepResult& result);
  void validate();

  // trainer_state.cpp
  std::unique_ptr<Transformer> initial_model(const ResumeFrom& from) const;
  void save();
  bool take_up(const ResumeFrom& from);
  void resume(const std::filesystem::path& folder, const Checkpoint& checkpoint);
  void restore(const std::filesystem::path& folder, const Checkpoint& checkpoint);
  bool rolled_back(const StepResult& spike);
  void resume_data(const Checkpoint& checkpoint, const std::filesystem::path& path);
  Hdf5Attributes state() const;
  std::vector<NamedTensor> checkpoint_tensors() const;
  std::filesystem::path checkpoints() const { return config_.run_dir() / "checkpoints"; }

  RunConfig config_;
  std::unique_ptr<FolderLock> lock_;
  std::unique_ptr<Console> console_;
  std::unique_ptr<Tokenizer> tokenizer_;
  PreparedData data_;
  std::unique_ptr<Transformer> model_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<BackgroundLoader> loader_;
  std::unique_ptr<Metrics> metrics_;
  SpikeDetector spikes_;

  int64_t step_ = 0;    // finished steps, skipped ones included
  int64_t tokens_ = 0;  // counted targets seen
  int64_t skipped_ = 0, skipped_in_a_row_ = 0;
  int64_t rollbacks_ = 0;
  int64_t saved_step_ = -1;
  double seconds_per_step_ = 0;              // running mean
  std::array<int64_t, 2> measured_shape_{};  // whose memory was reported
};

}  // namespace braid
