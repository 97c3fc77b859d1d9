#pragma once
#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/ignored_target.h"

namespace braid {

/// Sum of the cross-entropies in nats over counted targets, wide.  logits_BSV, targets_BS int64.
/// Divide by the number of counted targets of the whole optimiser step, not of a micro-batch.
at::Tensor cross_entropy_sum(const at::Tensor& logits_BSV, const at::Tensor& targets_BS);

/// Counted targets.
int64_t counted_targets(const at::Tensor& targets_BS);

}  // namespace braid
