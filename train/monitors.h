#pragma once
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "parallel/grid.h"
#include "run/config.h"
#include "train/losses.h"
#include "train/pass_monitor.h"
#include "train/training_state.h"
#include "train/update_monitor.h"

namespace braid {

/// What a run measures of itself beside losses and gradients (logging.monitors; docs/monitors.md).
/// Every rank has one and calls its functions at the same points of a step. It only looks: weights
/// have the same bits whatever is measured. What is switched off is not computed.
class Monitors {
 public:
  /// `state` must hold model and optimizer and outlive it.
  Monitors(const RunConfig& config, const ProcessGrid& grid, TrainingState& state);

  /// Step `step` begins.
  void begin_step(int64_t step);
  /// Who is shown the pass of the step's first micro-batch; null if nobody.
  Observer* observer();
  /// Around the optimizer's step, unless it is skipped. `load_E`: the step's tokens per expert.
  void before_update(TrainedParts parts, double learning_rate);
  void after_update(const std::vector<at::Tensor>& load_E);

  /// What this step gave, by key, the same on every rank: nothing but mtp_ratio unless it is one
  /// that `every_steps` divides.
  std::vector<std::pair<std::string, double>> end_step(const Losses& losses);

 private:
  void add_expert_loads(const std::vector<at::Tensor>& load_E, Tally& tally) const;

  LoggingSection config_;
  const ProcessGrid& grid_;
  TrainingState& state_;
  std::optional<PassMonitor> pass_;
  std::optional<UpdateMonitor> updates_;  // and weights
  int64_t step_ = 0;
  bool measures_ = false;
  bool has_update_ = false;
  Tally tally_;
};

/// "0", "1", ... for decoder layers and "mtp" for the block behind them, as keys end.
std::string layer_key(std::size_t layer, const ModelConfig& config);

}  // namespace braid
