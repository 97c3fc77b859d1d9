#pragma once
#include <ATen/core/Tensor.h>

namespace braid {

/// Collapses residual streams into a sublayer's input: x_TD = sum_s pre[s] X[s].
/// X_TMD any float type, pre_TM wide; the sum is wide, the result has X's type.
/// Source: architecture of mHC (arXiv:2512.24880 eq. 3). Gradients: X, pre.
at::Tensor collapse_streams(const at::Tensor& X_TMD, const at::Tensor& pre_TM);

/// Writes a sublayer's output back: X'[k] = post[k] y + sum_j mix[j, k] X[j], i.e. mix^T X.
/// X_TMD, y_TD of one float type, post_TM and mix_TMM wide; wide arithmetic, the result has X's
/// type. Gradients: X, y, post, mix.
at::Tensor expand_streams(const at::Tensor& X_TMD,
                          const at::Tensor& y_TD,
                          const at::Tensor& post_TM,
                          const at::Tensor& mix_TMM);

/// The same in plain LibTorch.
at::Tensor collapse_streams_reference(const at::Tensor& X_TMD, const at::Tensor& pre_TM);
at::Tensor expand_streams_reference(const at::Tensor& X_TMD,
                                    const at::Tensor& y_TD,
                                    const at::Tensor& post_TM,
                                    const at::Tensor& mix_TMM);

}  // namespace braid
