#pragma once
// Anticipatory routing: the experts of a batch are chosen some steps before the batch is learned
// from, with the parameters of that time, while features and gate weights are those of its own step
// (DeepSeek-V4 report, training stability).
#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/store.h"
#include "data/background_loader.h"
#include "model/transformer.h"
#include "parallel/grid.h"
#include "run/config.h"

namespace braid {

/// The samples of one step.
struct StepSamples {
  int64_t sequences = 0;  ///< over all micro-batches and ranks
  int64_t seq_len = 0;
  LoaderState before;               ///< position in the data before them
  std::string digest = {};          ///< of the ids of all of them
  std::vector<Batch> batches = {};  ///< this rank's micro-batches
  /// Of each of them, with anticipatory routing: int16 [B, S, L, K], the experts of the L learned
  /// routers, whole sequences also where ranks divide them. Empty: not chosen yet.
  std::vector<at::Tensor> experts_BSLK = {};
};

/// The next samples of a step. Each rank goes through all of them and keeps its own: consecutive
/// ones, so that micro-batches are the same on any number of ranks as long as their size divides
/// the share. Ranks of a context group have the same ones; the model gives each its tokens of them.
StepSamples next_samples(BackgroundLoader& loader,
                         const GridPlace& place,
                         int64_t micro_batch_size,
                         int64_t sequences,
                         int64_t seq_len);

/// The steps that are fetched ahead, and for how long.
class LookAhead {
 public:
  /// Steps that anticipatory routing is still on for; nullopt = to the end of the run.
  std::optional<int64_t> remaining = 0;
  std::deque<StepSamples> steps;  ///< the next one first; none while routing is sync

  bool is_on() const { return !remaining || *remaining > 0; }
  /// On for so many more steps (nullopt = all). Steps that are fetched already are chosen for anew:
  /// the parameters went back.
  void enter(std::optional<int64_t> steps_more);
  /// Counts a step. True when that was the last one; the caller then puts the steps back.
  bool finish_step();
};

/// The experts that the model now chooses for a micro-batch, as StepSamples has them. `options` are
/// those that the micro-batch is learned with. Collective over the groups of `grid`.
at::Tensor chosen_experts(const Transformer& model,
                          const Batch& batch,
                          PassOptions options,
                          const ProcessGrid& grid);

/// The same as a pass takes them.
std::shared_ptr<const GivenExperts> given_experts(const Transformer& model,
                                                  const at::Tensor& experts_BSLK);

/// What a checkpoint holds of it: the experts that were chosen (by parameters that are gone, so
/// they cannot be chosen again) and how many steps they are of. The samples are fetched again, from
/// the position in the data before the first of them.
std::vector<TensorPiece> look_ahead_pieces(const LookAhead& ahead, const GridPlace& place);
std::string look_ahead_yaml(const LookAhead& ahead);
/// Continues with the steps that the checkpoint in `folder` holds, fetched from `loader`, which
/// stands where they begin. `yaml` is what look_ahead_yaml() gave. Where they were chosen with
/// another delay, are no longer wanted, or are other samples now, they are dropped: they will be
/// fetched, and chosen for, again. Returns whether they are kept.
bool restore_look_ahead(LookAhead& ahead,
                        const Checkpoint& checkpoint,
                        const std::filesystem::path& folder,
                        const std::string& yaml,
                        const RunConfig& config,
                        const Transformer& model,
                        const GridPlace& place,
                        BackgroundLoader& loader);

}  // namespace braid
