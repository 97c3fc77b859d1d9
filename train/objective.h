#pragma once
#include "data/batch.h"
#include "run/regime.h"
#include "train/losses.h"

namespace braid {

/// What training minimizes. A new loss is a new Objective; the trainer knows no other.
class Objective {
 public:
  virtual ~Objective() = default;

  /// What this micro-batch adds to the numbers that the step's means are divided by; the same names
  /// for every batch.
  virtual LossCounts counts(const Batch& batch) const = 0;

  /// Forward pass and losses of one micro-batch: its share of the step whose counts, over all
  /// micro-batches and ranks, are `counts`. Every batch of a step declares the same terms.
  /// It also reports the expert loads of every layer of the model (MicroBatchLoss::add_load()), by
  /// which routing biases are balanced.
  virtual MicroBatchLoss loss(const Batch& batch,
                              const LossCounts& counts,
                              const Regime& regime) const = 0;
};

}  // namespace braid
