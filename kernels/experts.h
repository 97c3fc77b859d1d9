#pragma once
#include <vector>

#include <ATen/core/Tensor.h>

#include "kernels/weight.h"

namespace braid {

/// The routed experts of an MoE layer, applied to the tokens routed to them:
///
///   out_t = sum_k  w2_e ( wt_{t,k} silu(min(w1_e x_t, limit)) clamp(w3_e x_t, +-limit) ),  e =
///   experts[t, k]
///
/// x_TD any float type; experts_TK int64, distinct within a row; weights_TK wide; w1_EFD, w3_EFD,
/// w2_EDF stacks of wide master weights (rounded to x's type) or quantized matrices, which only the
/// experts that tokens visit are decoded from. The sum over k is wide, in the order of k whatever
/// the batch, and so is the result out_TD. No token is ever dropped. Gradients: x, weights, and
/// the stacks that require one. Source: docs/equations.md (33), (34).
at::Tensor routed_experts(const at::Tensor& x_TD,
                          const at::Tensor& experts_TK,
                          const at::Tensor& weights_TK,
                          const ExpertWeights& w1_EFD,
                          const ExpertWeights& w2_EDF,
                          const ExpertWeights& w3_EFD,
                          double limit);

/// The same in plain LibTorch.
at::Tensor routed_experts_reference(const at::Tensor& x_TD,
                                    const at::Tensor& experts_TK,
                                    const at::Tensor& weights_TK,
                                    const ExpertWeights& w1_EFD,
                                    const ExpertWeights& w2_EDF,
                                    const ExpertWeights& w3_EFD,
                                    double limit);

/// The (token, choice) pairs sorted by expert, pairs of one expert in token order.
struct ExpertOrder {
  at::Tensor pair_R;             ///< int64: sorted row -> t * K + k
  at::Tensor row_TK;             ///< int64: the inverse, flattened
  std::vector<int64_t> first_E;  ///< E + 1 bounds of the experts' rows
};
ExpertOrder sorted_by_expert(const at::Tensor& experts_TK, int64_t num_experts);

}  // namespace braid
