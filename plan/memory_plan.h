#pragma once
#include <map>
#include <string>
#include <vector>

#include "model/parameters.h"
#include "optim/param_groups.h"
#include "parallel/grid.h"
#include "plan/stream_plan.h"
#include "run/config.h"
#include "run/regime.h"

namespace braid {

/// Bytes of one rank while training, estimated; where ranks differ, of the fullest. All but
/// snapshot and pinned experts are on the rank's device.
struct MemoryPlan {
  bool on_gpu = false;       ///< train.device is no CPU
  double weights_bytes = 0;  ///< with the tables of hash routers, and experts that stay there
  double working_copies_bytes = 0;  ///< of masters that products round, on a GPU
  double gradients_bytes = 0;       ///< in fixed order with the micro-batches' partial sums
  double optimizer_bytes = 0;
  double activations_bytes = 0;
  double buckets_bytes = 0;   ///< of gradients on their way to other ranks
  double snapshot_bytes = 0;  ///< of the host, while a checkpoint is written in the background

  // Experts that a base holds as codes. On the CPU all are mapped.
  double resident_experts_bytes = 0;  ///< of weights_bytes, on a GPU
  double expert_buffers_bytes = 0;    ///< on a GPU, for those that are copied to it
  double pinned_experts_bytes = 0;    ///< in pinned memory of the host
  double mapped_experts_bytes = 0;    ///< in the base's files, which are on the disk
  StreamPlan stream = {};

  /// Of the weights, those that stay in a base's files, where it is not known what they take in
  /// memory.
  double base_weights_bytes = 0;
  double saved_weights_bytes = 0;  ///< of all ranks, what a checkpoint has of them

  double device_bytes() const {
    return weights_bytes + working_copies_bytes + gradients_bytes + optimizer_bytes +
           activations_bytes + buckets_bytes + expert_buffers_bytes;
  }
  double host_bytes() const { return snapshot_bytes + pinned_experts_bytes; }
  double total_bytes() const { return device_bytes() + host_bytes(); }
};

/// Bytes of the parameters ("*" for experts) that a base holds as codes.
using CodeBytes = std::map<std::string, double>;

/// Estimates a training step's memory. Frozen parameters take what `codes` says of them, experts
/// where the run keeps them: on the CPU in the base's files, beside a GPU as
/// RunConfig::expert_room() leaves room. Where `codes` says nothing of any, all are counted as
/// masters, as if they had been trained. `parameters` need
/// no values; `regime` is the step's whose memory this is; `groups` are one rank's,
/// `optimizer_bytes` its optimizer state.
///
/// Activations are what autograd keeps of one micro-batch for the backward pass, without working
/// tensors: by layer, stream head and MTP block as kept_by_layer() and its neighbors in
/// memory_plan.cpp count them, in the compute type and in the wide type. To these come who sees
/// whom (numbers of 8 bytes, and the chosen entries' of each CSA layer that selects). Logits exist
/// in chunks only and are not counted. With recomputation each segment of n sublayers keeps its
/// streams, and one segment at a time, n / 2 layers, what layers keep. Buckets are kept as sent and
/// as received.
MemoryPlan planned_memory(const RunConfig& config,
                          const Parameters& parameters,
                          const std::vector<GroupedParameter>& groups,
                          const Regime& regime,
                          const GridPlace& grid,
                          double optimizer_bytes,
                          int64_t zero_group,
                          const CodeBytes& codes = {});

}  // namespace braid
