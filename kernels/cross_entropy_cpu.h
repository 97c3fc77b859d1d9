#pragma once
#include <ATen/core/Tensor.h>

namespace braid {

/// The CPU kernel of cross-entropy (kernels/cross_entropy.h): the loss of every token times its
/// weight (where weights are defined), [T], and the gradients of their sum, written where the
/// tensors are defined. Logits exist for `logit_bytes` worth of tokens at a time. Tensors without
/// gaps, all but the targets of one wide type; targets in [0, V).
at::Tensor cross_entropy_cpu(const at::Tensor& hidden_TD,
                             const at::Tensor& head_VD,
                             const at::Tensor& targets_T,
                             const at::Tensor& weights_T,
                             int64_t logit_bytes,
                             const at::Tensor& dhidden_TD = {},
                             const at::Tensor& dhead_VD = {});

}  // namespace braid
