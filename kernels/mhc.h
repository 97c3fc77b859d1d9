#pragma once
// Local letters: K rows of fn, base and scale: M of pre, M of post, M * M of the matrix.
#include <ATen/core/Tensor.h>

namespace braid {

/// The learned part of manifold-constrained hyper-connections (mHC) in front of a sublayer of M
/// streams of width D, all wide.
struct MhcWeights {
  at::Tensor fn;  ///< [K, M D]; K = (2 + M) M rows: M of pre, M of post, M M of the mixing
  at::Tensor base_K;
  at::Tensor scale_3;  ///< of the three kinds of rows
};

struct MhcOptions {
  int64_t iterations = 20;  ///< of Sinkhorn
  double hc_eps = 1e-6, norm_eps = 1e-6;
};

/// What a sublayer starts from.
struct EnteredStreams {
  at::Tensor h_TD;   ///< its normed input, of the streams' type
  at::Tensor X_TMD;  ///< the streams as given: expand_streams() takes these, so that their gradient
                     ///< comes back here and is completed in place
  at::Tensor pre_TM;   ///< weights of the streams in the input; wide, without gradient
  at::Tensor post_TM;  ///< for expand_streams(), wide
  at::Tensor mix_TMM;  ///< likewise
};

/// In front of a sublayer, per token, with f its streams one after another (everything wide):
///
///   m = (f fn^T) / sqrt(mean(f^2) + norm_eps),  a = m scale + base by kinds of rows
///   pre = sigmoid(a_pre) + hc_eps,  post = 2 sigmoid(a_post),  mix = sinkhorn(a_mix)
///   x = sum_s pre[s] X[s], of X's type; h = x / sqrt(mean(x^2) + norm_eps) norm
///
/// X_TMD of any float type, leading axes free; norm_D wide. Gradients: X, the weights, norm. Where
/// X is bfloat16 and the machine multiplies pairs, fn is the sum of two bfloat16 (an error of 2^-17
/// of each element), and those gradients that go through the projection are products of factors
/// that are rounded to bfloat16 (by 2^-9 each).
/// Source: release code; arXiv:2512.24880 eq. 3-9, with the RMS norm after the projection.
EnteredStreams enter_streams(const at::Tensor& X_TMD,
                             const MhcWeights& weights,
                             const at::Tensor& norm_D,
                             const MhcOptions& options);

/// Behind the last layer: h of the same, out of pre alone. fn [M, M D], base [M], scale [1].
at::Tensor join_streams(const at::Tensor& X_TMD,
                        const MhcWeights& weights,
                        const at::Tensor& norm_D,
                        const MhcOptions& options);

/// The same in plain LibTorch.
EnteredStreams enter_streams_reference(const at::Tensor& X_TMD,
                                       const MhcWeights& weights,
                                       const at::Tensor& norm_D,
                                       const MhcOptions& options);
at::Tensor join_streams_reference(const at::Tensor& X_TMD,
                                  const MhcWeights& weights,
                                  const at::Tensor& norm_D,
                                  const MhcOptions& options);

}  // namespace braid
