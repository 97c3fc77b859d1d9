#pragma once
#include <vector>

#include "model/parameters.h"
#include "optim/param_groups.h"
#include "parallel/grid.h"
#include "run/config.h"
#include "run/regime.h"

namespace braid {

/// Bytes of one rank while training, estimated; where ranks differ, of the fullest.
struct MemoryPlan {
  double weights_bytes = 0;    ///< with the tables of hash routers
  double gradients_bytes = 0;  ///< in fixed order with the micro-batches' partial sums
  double optimizer_bytes = 0;
  double activations_bytes = 0;
  double buckets_bytes = 0;   ///< of gradients on their way to other ranks
  double snapshot_bytes = 0;  ///< while a checkpoint is written in the background

  double total_bytes() const {
    return weights_bytes + gradients_bytes + optimizer_bytes + activations_bytes + buckets_bytes +
           snapshot_bytes;
  }
};

/// Parameters need no values. Activations are what autograd keeps of one micro-batch for the
/// backward pass, without working tensors. A layer keeps of each token, in the compute type
///   2 D + L + N H + G O + K (D + 3 F) + F s                     inputs of matrix products
/// and in the wide type
///   2 (c M D + 2 D) + L + 3 N H + 2 H + 2 X + 2 F s + 2 E       inputs of everything else
/// with X the width of its compressor, s the shared experts and c = 1. Where the compute type is
/// narrower than the wide one each operation keeps a wide copy of its own: c = 3, and D more, 3 D
/// in a layer that compresses. Collapsing the streams at the end keeps M D + 2 D (c: twice M D).
/// Who sees whom is four numbers of 8 bytes, four more for each ratio, and the chosen entries'
/// numbers in each CSA layer that selects. Logits exist in chunks only and are not counted. With
/// recomputation each segment of n sublayers keeps its M D streams, and one segment at a time, n /
/// 2 layers, what layers keep. Buckets are kept as sent and as received. `regime` is the step's
/// whose memory this is; `groups` are one rank's, `optimizer_bytes` its state.
MemoryPlan planned_memory(const RunConfig& config,
                          const Parameters& parameters,
                          const std::vector<GroupedParameter>& groups,
                          const Regime& regime,
                          const GridPlace& grid,
                          double optimizer_bytes,
                          int64_t zero_group);

}  // namespace braid
