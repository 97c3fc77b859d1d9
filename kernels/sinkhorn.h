#pragma once
#include <ATen/core/Tensor.h>

namespace braid {

/// The mixing matrix of mHC, per token: softmax over the last axis of logits_TMM, + eps, one column
/// normalization, then iterations - 1 times (rows, columns); every denominator has + eps, and the
/// last step is a column normalization (columns sum to 1 - eps; rows as far as the iterations
/// converge). "Columns" sum over the FIRST matrix axis. float32 or float64. Gradients pass
/// through every iteration. Source: DeepSeek-V4 release code; differs from arXiv:2512.24880 eq. 9
/// in order and in eps.
at::Tensor sinkhorn(const at::Tensor& logits_TMM, int64_t iterations, double eps);

/// The same in plain LibTorch.
at::Tensor sinkhorn_reference(const at::Tensor& logits_TMM, int64_t iterations, double eps);

}  // namespace braid
