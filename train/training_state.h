#pragma once
// What the next step depends on, and how a checkpoint holds it.
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/store.h"
#include "data/background_loader.h"
#include "data/prepare.h"
#include "formats/open_model.h"
#include "model/transformer.h"
#include "parallel/grid.h"
#include "run/alarms.h"
#include "run/config.h"
#include "run/spike.h"
#include "train/best_validations.h"
#include "train/idle_experts.h"
#include "train/look_ahead.h"
#include "train/sharded_optimizer.h"

namespace braid {

struct TrainingState {
  std::unique_ptr<Transformer> model;
  std::optional<BaseModel> base;  ///< holds the parameters that are in_base
  std::unique_ptr<ShardedOptimizer> optimizer;
  std::unique_ptr<BackgroundLoader> loader;
  SpikeDetector spikes;
  int64_t step = 0;    ///< finished steps, skipped ones included
  int64_t tokens = 0;  ///< counted targets seen
  int64_t skipped = 0, skipped_in_a_row = 0;
  int64_t rollbacks = 0;
  bool owes_validation = false;  ///< a signal stopped the one after `step`
  int64_t schedule_steps = 0;    ///< that the schedule spans (optim/schedule.h)
  BestValidations validations;
  LookAhead ahead;                               ///< of anticipatory routing
  std::optional<IdleExperts> idle_experts = {};  ///< where they are monitored
  Alarms alarms = {};

  /// Where the next step's samples begin.
  LoaderState data_position() const {
    return ahead.steps.empty() ? loader->state() : ahead.steps.front().before;
  }
  void count_step(int64_t targets, bool was_skipped);
};

/// The tensors that this rank writes into a checkpoint: its optimizer state, and of the weights
/// that several ranks hold each only once, in turn.
std::vector<TensorPiece> checkpoint_pieces(const TrainingState& state, const GridPlace& place);

/// Everything else: counters, the position in the data, and what the texts were.
Hdf5Attributes checkpoint_attributes(const TrainingState& state,
                                     const std::vector<TextDigest>& texts);

/// Restores everything but the position in the data, what is fetched ahead and schedule_steps from
/// the checkpoint in `folder`, which must hold all of the model that is not in the base. Throws
/// Error naming what it lacks.
void restore(TrainingState& state,
             const Checkpoint& checkpoint,
             const std::filesystem::path& folder,
             const GridPlace& place);

/// Restores the position in the data, and what was fetched ahead of it. Returns notes for people:
/// texts that changed since, sources whose documents come in a new order, and experts that are
/// chosen anew.
std::vector<std::string> restore_data(TrainingState& state,
                                      const Checkpoint& checkpoint,
                                      const std::filesystem::path& folder,
                                      const PreparedData& data,
                                      const RunConfig& config,
                                      const GridPlace& place);

}  // namespace braid
