#pragma once
#include <ATen/core/Tensor.h>

#include "kernels/weight.h"

namespace braid {

/// Low-rank adapters of the experts: each matrix W takes part as W + scale B A, of stacks of float
/// or wide factors that are rounded to x's type as masters are. w1 and w3 read one A. Letter r: the
/// rank of a pair.
struct ExpertAdapters {
  ExpertWeights a13_ErD = {}, b1_EFr = {}, b3_EFr = {};  ///< of w1 and w3; all three or none
  ExpertWeights a2_ErF = {}, b2_EDr = {};                ///< of w2; both or none
  double scale13 = 1, scale2 = 1;
};

/// The routed experts of an MoE layer, applied to the tokens routed to them:
///
///   out_t = sum_k  w2_e ( wt_{t,k} silu(min(w1_e x_t, limit)) clamp(w3_e x_t, +-limit) ),  e =
///   experts[t, k]
///
/// x_TD any float type; experts_TK int64, distinct within a row; weights_TK wide; w1_EFD, w3_EFD,
/// w2_EDF stacks of wide master weights (rounded to x's type) or quantized matrices, which only the
/// experts that tokens visit are decoded from. The sum over k is wide, in the order of k whatever
/// the batch, and so is the result out_TD. No token is ever dropped. Gradients: x, weights, and
/// the stacks that require one, those of the adapters included. Source: docs/equations.md (33),
/// (34). Adapters cost experts that no token visits nothing.
at::Tensor routed_experts(const at::Tensor& x_TD,
                          const at::Tensor& experts_TK,
                          const at::Tensor& weights_TK,
                          const ExpertWeights& w1_EFD,
                          const ExpertWeights& w2_EDF,
                          const ExpertWeights& w3_EFD,
                          double limit,
                          const ExpertAdapters& adapters = {});

/// The same in plain LibTorch. Of a device it waits once, for the numbers of the experts' rows.
at::Tensor routed_experts_reference(const at::Tensor& x_TD,
                                    const at::Tensor& experts_TK,
                                    const at::Tensor& weights_TK,
                                    const ExpertWeights& w1_EFD,
                                    const ExpertWeights& w2_EDF,
                                    const ExpertWeights& w3_EFD,
                                    double limit,
                                    const ExpertAdapters& adapters = {});

}  // namespace braid
