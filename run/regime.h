#pragma once
#include <cstdint>
#include <vector>

#include "model/pass.h"
#include "optim/param_groups.h"
#include "run/config.h"

namespace braid {

/// Weights of the terms of the language-modeling loss (train/language_objective.h) beside the
/// cross-entropy, whose weight is 1. A term of weight 0 is not computed, except the MTP loss.
struct LossWeights {
  double mtp = 0, balance = 0, indexer = 0;
};

/// What the schedule asks of one optimizer step.
struct Regime {
  TrainedParts trained = {TrainedPart::kTrunk};
  PassOptions options;
  bool qat = true;  ///< passes round as model.qat_experts and qat_indexer say (UseQat)
  LossWeights weights;
  double learning_rate = 0;
  int64_t sequences = 0;  ///< of the step, over all its micro-batches
  int64_t seq_len = 0;    ///< tokens in each

  bool warms_up_indexer() const { return trained == TrainedParts{TrainedPart::kIndexer}; }
};

/// The regime of the step after `applied` steps: first dense attention (schedule.dense_steps), then
/// the indexers' warm-up (schedule.indexer_warmup_steps), then what loss.indexer_mode says; batch
/// and length by their ramps; rounding from schedule.qat_from_step on; the MTP weight by whether
/// the learning rate decays. The schedule spans `spanned` steps (optim/schedule.h).
Regime regime_at(const RunConfig& config, int64_t applied, int64_t spanned);
/// The same of a run that was not made longer: it spans train.max_steps.
Regime regime_at(const RunConfig& config, int64_t applied);

/// The steps, ascending from 0, at which regime_at() may begin to return another stage: between two
/// of them only the learning rate and the MTP loss's weight change.
std::vector<int64_t> regime_starts(const RunConfig& config);

/// What any step of the run trains.
TrainedParts ever_trained(const RunConfig& config);

}  // namespace braid
