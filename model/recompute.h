#pragma once
// Activation checkpointing: memory for a second forward pass.
#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "model/block.h"

namespace braid {

/// Part of a forward pass: a function of X and of parameters alone, with the same bits every time.
/// It reports to pass.observations, if any.
using Segment = std::function<at::Tensor(const at::Tensor& X, const Pass& pass)>;

/// segment(X, pass), of which only X, the result and the reports stay in memory; the backward pass
/// runs it again. Reported losses have their gradient. Where X needs no gradient the segment simply
/// runs: what it keeps then is what its own parameters need. Parameters used inside receive their
/// gradients directly.
at::Tensor recomputed(const Segment& segment, const at::Tensor& X, const Pass& pass);

/// The streams X_BSMD after all `blocks`, in segments of options.recompute_sublayers sublayers
/// (Block::attend or Block::apply_experts), which need not end with a layer. `blocks` must outlive
/// the backward pass.
at::Tensor recomputed_blocks(const std::vector<Block>& blocks,
                             const at::Tensor& X_BSMD,
                             const Pass& pass);

}  // namespace braid
