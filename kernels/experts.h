#pragma once
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

/// The same in plain LibTorch. Of a device it waits once, for the numbers of the experts' rows.
at::Tensor routed_experts_reference(const at::Tensor& x_TD,
                                    const at::Tensor& experts_TK,
                                    const at::Tensor& weights_TK,
                                    const ExpertWeights& w1_EFD,
                                    const ExpertWeights& w2_EDF,
                                    const ExpertWeights& w3_EFD,
                                    double limit);

}  // namespace braid
