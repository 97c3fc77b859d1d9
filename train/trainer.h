#pragma once
#include <functional>
#include <memory>

#include "data/background_loader.h"
#include "data/prepare.h"
#include "data/tokenizer.h"
#include "model/transformer.h"
#include "optim/optimizer.h"
#include "train/config.h"
#include "train/console.h"
#include "train/evaluate.h"
#include "train/metrics.h"

namespace braid {

struct Checkpoint;

/// How a training run ended.
enum class TrainingEnd { kFinished, kInterrupted };

/// One training run in one process: everything it holds can be rebuilt from its folder, so that a
/// run that stops at any step continues with the same bits.
class Trainer {
 public:
  /// Prepares the run's folder and data, and continues from the newest complete checkpoint if there
  /// is one. Throws Error when another process is training in the folder.
  explicit Trainer(const RunConfig& config);
  ~Trainer();

  /// Trains up to config.train.max_steps, or until `interrupted` returns true between two steps;
  /// saves either way.
  TrainingEnd run(const std::function<bool()>& interrupted);

  int64_t step() const { return step_; }

 private:
  struct StepResult {
    double loss = 0, mtp_loss = 0, learning_rate = 0, gradient_norm = 0;
    int64_t tokens = 0;
    bool applied = true;
  };
  StepResult train_step();
  void forward_backward(const Batch& batch,
                        int64_t targets,
                        int64_t mtp_targets,
                        StepResult& result);
  void update_routing_biases();

  void describe() const;
  void report(const StepResult& result, double seconds);
  void validate();
  void save();
  bool resume();
  void resume_data(const Checkpoint& checkpoint, const std::filesystem::path& path);
  std::vector<NamedTensor> checkpoint_tensors() const;
  std::vector<at::Tensor> gradients() const;
  double mtp_weight() const;

  class FolderLock;

  RunConfig config_;
  std::unique_ptr<FolderLock> lock_;
  std::unique_ptr<Console> console_;
  std::unique_ptr<Tokenizer> tokenizer_;
  PreparedData data_;
  std::unique_ptr<Transformer> model_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<BackgroundLoader> loader_;
  std::unique_ptr<Metrics> metrics_;

  int64_t step_ = 0;    // finished steps, skipped ones included
  int64_t tokens_ = 0;  // counted targets seen
  int64_t skipped_in_a_row_ = 0;
  int64_t saved_step_ = -1;
  std::vector<at::Tensor>
      expert_load_E_;            // of the present step, by router; undefined for hash layers
  double seconds_per_step_ = 0;  // running mean
};

}  // namespace braid
