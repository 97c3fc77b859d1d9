#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "parallel/grid.h"
#include "run/monitor_config.h"
#include "train/sharded_optimizer.h"
#include "train/tally.h"

namespace braid {

/// Measures what one optimizer step does to the weights that this rank updates. Adds to a tally:
///
///   update_rms.<optimizer>.<part>  RMS of (W (1 - rate decay) - W') / rate: of what the step
///                            subtracts beside the weight decay, at a rate of 1. Of about 8 MiB of
///                            each part on each rank, others each time.
///   orthogonality_error      of one of Muon's matrices on any rank, drawn anew each time: with O
///                            what the step subtracts over rate * update_rms * sqrt(max(r, c)), the
///                            distance of O's largest singular value from 1. (Smaller ones may be
///                            anything: a direction that the momentum hardly has is not lifted.)
///   orthogonality_rank       the share of singular values above 1/2
///   weight_rms.<part>        of all trained weights
class UpdateMonitor {
 public:
  UpdateMonitor(const ShardedOptimizer& optimizer, const GridPlace& place, const MuonConfig& muon);

  /// Copies what the step is going to change. `measurement` counts them; the choice is a function
  /// of it.
  void before_step(int64_t measurement, TrainedParts parts, double learning_rate);
  /// Compares. Every rank calls this after before_step().
  void after_step(Tally& tally);
  /// Adds weight_rms.
  void add_weights(Tally& tally) const;

 private:
  struct Kept {
    ElementRange range;
    at::Tensor before;  // flat
  };

  Kept copy_of(const ElementRange& range) const;
  at::Tensor weights(const ElementRange& range) const;
  at::Tensor subtracted(const Kept& kept) const;
  void keep_some_of_each_part(int64_t measurement, TrainedParts parts);
  void keep_one_matrix(int64_t measurement, TrainedParts parts);
  void add_orthogonality(Tally& tally) const;

  const ShardedOptimizer& optimizer_;
  MuonConfig muon_;
  std::vector<ElementRange> own_;  // units for which this rank answers, each weight on one rank
  struct MuonUnit {
    ElementRange range;
    int64_t rank;  // that answers for it
  };
  std::vector<MuonUnit> muon_units_;  // of all ranks
  int64_t rank_;
  double learning_rate_ = 0;
  std::vector<Kept> kept_;
  std::vector<Kept> matrix_;  // one or none
};

}  // namespace braid
