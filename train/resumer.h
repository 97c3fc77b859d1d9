#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "run/run_folder.h"
#include "train/checkpoint_saver.h"
#include "train/training_state.h"

namespace braid {

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

/// The model a run begins with: random weights, those of run.init_from, or, where a checkpoint
/// leaves frozen weights in their base, that base's (the checkpoint's own follow in
/// start_or_resume()).
struct InitialModel {
  std::unique_ptr<Transformer> model;
  std::optional<BaseModel> base;  ///< where the model's weights come from
};
InitialModel initial_model(const RunConfig& config,
                           const ProcessGrid& grid,
                           RunFolder& folder,
                           const ResumeFrom& from,
                           at::Device device);

/// The model that the run had before its first step, whatever it has saved since.
InitialModel first_model(const RunConfig& config,
                         const ProcessGrid& grid,
                         RunFolder& folder,
                         at::Device device);

/// The index in data.validation of the set that decides which validations are best.
std::size_t judged_set(const CheckpointSection& config, const PreparedData& data);

/// Saves a run's checkpoints and continues from them. Every rank calls its functions at the same
/// points between steps. All arguments must outlive it; `state` is what it saves and restores.
class Resumer {
 public:
  Resumer(const RunConfig& config,
          const ProcessGrid& grid,
          RunFolder& folder,
          const PreparedData& data,
          TrainingState& state);

  /// Restores the state that `from` asks for; false when the run starts at step 0. A damaged newest
  /// checkpoint is passed over for the one before it. Throws Error when the checkpoint is another
  /// model's, or when there are checkpoints and none is whole.
  bool start_or_resume(const ResumeFrom& from);

  /// Answers a loss spike as stability.spike_action says. True after a rollback to the newest
  /// checkpoint; the position in the data stays, so that what led into the spike is not seen again.
  bool try_rollback(double loss);

  /// Begins to save the state unless this step's is saved already. Throws Error that names the
  /// tensor, and the way on, where one is not finite.
  void save();
  /// The same where this step's is saved already, but without what has changed since.
  void save_again();
  /// The same as save(), unless the step was skipped: whether its weights compute anything is then
  /// open. Also not while losses are a spike's, where a spike is answered by going back.
  void save_if_proven();
  /// Completes the save under way if it is written, or waits for it. Older checkpoints are removed
  /// once a step that began with a newer one was finite, so that a run whose weights became useless
  /// still has others; and when the run ends.
  void poll();
  void finish();

  /// For a message that ends the run: the newest checkpoint up to step `newest_sound`, and the
  /// command that goes on from it. Every rank calls this.
  std::string way_on(int64_t newest_sound);
  /// The same after steps that were all skipped: their weights led nowhere, so their checkpoints
  /// are set aside, unless there would be none.
  std::string leave_not_finite();

  /// The link to the best checkpoint (checkpoint.keep_best).
  std::string best_link() const { return (checkpoints_ / "best").string(); }

 private:
  void on_saved(const std::optional<std::filesystem::path>& checkpoint);
  void prune();
  void link_to_best(const std::vector<int64_t>& steps);
  void require_all_finite(const std::vector<TensorPiece>& pieces);
  bool resume_newest();
  void resume(const std::filesystem::path& folder, const Checkpoint& checkpoint);
  void continue_schedule(const RunConfig& before, const Checkpoint& checkpoint);
  void roll_back_to(const std::filesystem::path& folder, double loss);
  void set_later_checkpoints_aside(int64_t step, const char* why);
  void adopt_validations();
  Checkpoint load(const std::filesystem::path& folder) const;
  std::vector<std::filesystem::path> complete_as_rank_0_sees(
      std::vector<std::string>* damaged = nullptr) const;

  const RunConfig& config_;
  const ProcessGrid& grid_;
  RunFolder& folder_;
  const PreparedData& data_;
  TrainingState& state_;
  std::filesystem::path checkpoints_;
  CheckpointSaver saver_;
  int64_t saved_step_ = -1;
  std::vector<int64_t> best_steps_;  // as of the checkpoint saved last, complete or not
  std::vector<int64_t> kept_steps_;  // as of the last complete one
  bool prune_due_ = false;
};

}  // namespace braid
