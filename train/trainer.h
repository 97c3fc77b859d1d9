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
#include "inference/evaluate.h"
#include "model/transformer.h"
#include "parallel/grid.h"
#include "run/config.h"
#include "run/console.h"
#include "run/metrics.h"
#include "run/regime.h"
#include "run/spike.h"
#include "train/checkpoint_saver.h"
#include "train/sharded_optimizer.h"
#include "train/step_profile.h"

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

/// One training run, or one rank's part in it: everything it holds can be rebuilt from the run's
/// folder, so that a run that stops at any step continues with the same bits, on any grid of ranks.
class Trainer {
 public:
  /// Prepares the run's folder and data, and takes up the run. Of several ranks each calls this,
  /// with the same arguments. Throws Error when another process is training in the folder.
  explicit Trainer(const RunConfig& config,
                   const ResumeFrom& from = {},
                   std::unique_ptr<Communicator> ranks = alone());
  ~Trainer();

  /// Trains up to config.train.max_steps, or until `interrupted` returns true on any rank between
  /// two steps; saves either way.
  TrainingEnd run(const std::function<bool()>& interrupted);

  /// From here on run() measures where its steps' time goes, and at its end tells it and writes
  /// profile.json into the run's folder.
  void profile();

  int64_t step() const { return step_; }

 private:
  struct StepResult {
    Losses losses;  // summed over the micro-batches; total undefined
    LossCounts counts;
    double learning_rate = 0, gradient_norm = 0;
    std::map<std::string_view, double> part_norms;  // by run/parts.h
    std::string not_finite;                         // which loss or parameters; empty = all is
    bool learns_indexer = false;
    std::array<int64_t, 2> shape{};                  // sequences at once, and their length
    double flops = 0;                                // of the model, as plan/flops.h counts
    int64_t activation_bytes = 0, update_bytes = 0;  // at most, beside what was there before
    std::map<std::string, int64_t> sent_bytes;       // by this rank, by what; of several ranks
  };
  StepResult train_step();
  std::vector<Batch> next_batches(const Regime& regime);
  LossCounts counts_of(const std::vector<Batch>& batches) const;
  void forward_backward(const std::vector<Batch>& batches, const Regime&, StepResult& result);
  Losses sum_over_ranks(const std::vector<Losses>& micro_batches) const;
  void measure_gradients(StepResult& result);
  std::map<std::string, int64_t> sent_bytes() const;
  bool any_rank(bool here, const char* what) const;
  void compare_weights() const;
  void update_routing_biases(const std::vector<at::Tensor>& load_E);
  void freeze_all_but(TrainedPart part);

  // trainer_report.cpp
  void describe() const;
  void report(const StepResult& result, double seconds);
  void report_skipped(const StepResult& result);
  void report_memory(const StepResult& result);
  void report_profile();
  void validate();

  // trainer_state.cpp
  std::unique_ptr<Transformer> initial_model(const ResumeFrom& from) const;
  void save();
  void saved(const std::optional<std::filesystem::path>& folder);
  bool take_up(const ResumeFrom& from);
  void resume(const std::filesystem::path& folder, const Checkpoint& checkpoint);
  void restore(const std::filesystem::path& folder, const Checkpoint& checkpoint);
  void restore_weights(const std::filesystem::path& folder, const Checkpoint& checkpoint);
  void set_threads() const;
  bool rolled_back(const StepResult& spike);
  void resume_data(const Checkpoint& checkpoint, const std::filesystem::path& path);
  Hdf5Attributes state() const;
  std::vector<TensorPiece> checkpoint_pieces() const;
  std::vector<std::filesystem::path> checkpoints_to_try(std::vector<std::string>& damaged) const;
  Checkpoint load(const std::filesystem::path& folder) const;
  std::filesystem::path checkpoints() const { return config_.run_dir() / "checkpoints"; }

  bool is_first() const { return grid_.place.rank == 0; }

  RunConfig config_;
  std::unique_ptr<FolderLock> lock_;  // rank 0's
  std::unique_ptr<Console> console_;  // only rank 0's speaks
  std::unique_ptr<Tokenizer> tokenizer_;
  PreparedData data_;
  ProcessGrid grid_;
  std::unique_ptr<Transformer> model_;
  std::unique_ptr<ShardedOptimizer> optimizer_;
  std::unique_ptr<BackgroundLoader> loader_;
  CheckpointSaver saver_;
  std::unique_ptr<Metrics> metrics_;  // rank 0's
  SpikeDetector spikes_;
  std::unique_ptr<StepProfile> profile_;

  int64_t step_ = 0;    // finished steps, skipped ones included
  int64_t tokens_ = 0;  // counted targets seen
  int64_t skipped_ = 0, skipped_in_a_row_ = 0;
  int64_t rollbacks_ = 0;
  int64_t saved_step_ = -1;
  double seconds_per_step_ = 0;              // running mean
  std::array<int64_t, 2> measured_shape_{};  // whose memory was reported
};

}  // namespace braid
