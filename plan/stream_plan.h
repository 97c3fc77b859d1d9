#pragma once
#include <cstdint>
#include <vector>

#include "kernels/weight.h"
#include "model/config.h"
#include "run/regime.h"

namespace braid {

/// A layer whose experts' codes are not kept on the device, as far as one rank holds them.
struct StreamedLayer {
  int64_t layer = 0;  ///< that of the MTP block is num_hidden_layers
  double bytes = 0;
  WeightPlace place = WeightPlace::kPinned;  ///< or kMapped
};

/// What of a base's experts one rank copies to its GPU (model/expert_stream.h).
struct StreamPlan {
  int64_t resident_layers = 0, pinned_layers = 0, mapped_layers = 0;
  double pinned_sent_bytes = 0;  ///< in a step, from pinned memory
  double mapped_sent_bytes = 0;  ///< in a step, from the base's files

  bool copies() const { return pinned_layers + mapped_layers > 0; }
};

/// Adds to `plan` the layers that are copied and what a step of this kind copies, in the middle of
/// a run: those that are in a buffer at a turn are not copied again. `streamed` in the order of
/// passes.
void add_streamed(const std::vector<StreamedLayer>& streamed,
                  const ModelConfig& config,
                  const Regime& regime,
                  int64_t micro_batches,
                  StreamPlan& plan);

}  // namespace braid
