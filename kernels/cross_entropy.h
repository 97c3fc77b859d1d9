#pragma once
#include <ATen/core/Tensor.h>

#include "core/ignored_target.h"

namespace braid {

inline constexpr int64_t kLogitBytes = int64_t{128} << 20;

/// Sum over counted targets of -weight_t log softmax(h_t W^T)[target_t] in nats, wide, [].
/// hidden_TD of any floating type, head_VD wide, targets_T int64 in [0, V) or kIgnoredTarget,
/// weights_T floating, undefined = all 1.
///
/// Logits exist for `logit_bytes` worth of counted tokens at a time (at least 64 tokens); with
/// gradients wanted, each chunk's are taken while its logits are there, so that the pass costs the
/// three products of the plain form and never holds [T, V]. Differentiable once. (On other devices
/// the plain form runs; targets out of range are an error of ours on the CPU.)
at::Tensor cross_entropy_sum(const at::Tensor& hidden_TD,
                             const at::Tensor& head_VD,
                             const at::Tensor& targets_T,
                             const at::Tensor& weights_T = {},
                             int64_t logit_bytes = kLogitBytes);

/// Each token's own -log softmax, [T], 0 where the target is not counted. Not differentiable.
at::Tensor cross_entropy_each(const at::Tensor& hidden_TD,
                              const at::Tensor& head_VD,
                              const at::Tensor& targets_T);

/// The same in plain LibTorch, all logits at once.
at::Tensor cross_entropy_sum_reference(const at::Tensor& hidden_TD,
                                       const at::Tensor& head_VD,
                                       const at::Tensor& targets_T,
                                       const at::Tensor& weights_T = {});
at::Tensor cross_entropy_each_reference(const at::Tensor& hidden_TD,
                                        const at::Tensor& head_VD,
                                        const at::Tensor& targets_T);

}  // namespace braid
