#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "data/prepare.h"
#include "data/tokenizer.h"
#include "inference/evaluate.h"
#include "parallel/grid.h"
#include "run/config.h"
#include "run/run_folder.h"
#include "train/monitors.h"
#include "train/objective.h"
#include "train/reporter.h"
#include "train/resumer.h"
#include "train/step_result.h"
#include "train/text_samples.h"
#include "train/training_state.h"

namespace braid {

/// How a training run ended.
enum class TrainingEnd {
  kFinished,
  kInterrupted,
  kAlarm,  ///< an alarm of action `stop` (stability.alarms)
};

/// One training run, or one rank's part in it: everything it holds can be rebuilt from the run's
/// folder, so that a run that stops at any step continues with the same bits, on any grid of ranks.
class Trainer {
 public:
  /// Prepares the run's folder and data, and starts or resumes the run. Of several ranks each calls
  /// this, with the same arguments, but each its own `device`, where the model, its gradients and
  /// its optimizer are (train.device, see device_of()); `ranks` exchange tensors of that device.
  /// Throws Error when another process is training in the folder.
  explicit Trainer(const RunConfig& config,
                   const ResumeFrom& from = {},
                   std::unique_ptr<Communicator> ranks = alone(),
                   at::Device device = at::kCPU);

  /// Trains up to config.train.max_steps, or as far as train.stop_when_worse_for lets it, or until
  /// `interrupted` returns true or a signal asks to stop (core/interruption.h), on any rank,
  /// between two steps or in a validation, or an alarm stops it; saves in any case. Throws Error,
  /// with the command that goes on, as soon as weights are not finite.
  TrainingEnd run(const std::function<bool()>& interrupted);

  /// From here on run() measures where its steps' time goes. At its end it prints that and writes
  /// profile.json into the run's folder.
  void profile() { reporter_.start_profile(); }

  int64_t step() const { return state_.step; }

 private:
  std::unique_ptr<Objective> make_objective(std::vector<DocumentScore> reference) const;
  StepResult train_step();
  StepSamples next_step_samples();
  StepSamples samples_of_regime(int64_t steps_ahead);
  Regime regime_ahead(int64_t steps) const;
  void choose_experts(StepSamples& samples, int64_t steps_ahead) const;
  void leave_anticipatory_routing();
  std::optional<uint64_t> dropout_key(int64_t step, std::size_t micro_batch) const;
  LossCounts counts_of(const std::vector<Batch>& batches) const;
  void learn_only(TrainedParts parts);
  void clear_gradients();
  void update_routing_biases(const std::vector<at::Tensor>& load_E);

  void require_finite_update(const std::string& not_finite);
  void require_some_finite_step(const StepResult& result);
  void require_finite_end();
  bool rolled_back_after_spike(const StepResult& result);
  bool alarm_stops(const std::vector<Metrics::Value>& record);
  bool validate();
  Evaluation evaluation_of(std::size_t set) const;
  std::vector<WrittenText> written_samples() const;
  bool finished() const;
  bool stopped_improving() const;
  std::string why_finished() const;
  bool any_rank(bool here, const char* what) const;

  RunConfig config_;
  ProcessGrid grid_;
  RunFolder folder_;
  std::unique_ptr<Tokenizer> tokenizer_;
  PreparedData data_;
  TrainingState state_;  // model, optimizer, loader and counters
  std::vector<std::vector<DocumentScore>> validation_reference_;  // of preferences, each set's
  std::unique_ptr<Objective> objective_;
  std::unique_ptr<TextSamples> samples_;
  Resumer resumer_;
  Reporter reporter_;
  std::unique_ptr<Monitors> monitors_;
};

}  // namespace braid
