#pragma once
// The CPU kernel of routed_experts (kernels/experts.h): rows sorted by expert, and grouped
// products.
//
// Local letter: R rows, one for each (token, choice) pair, sorted by expert.
#include <array>
#include <vector>

#include <ATen/core/Tensor.h>

#include "kernels/weight.h"

namespace braid {

/// The (token, choice) pairs sorted by expert, pairs of one expert in token order.
struct ExpertOrder {
  at::Tensor pair_R;             ///< int64: sorted row -> t * K + k
  at::Tensor row_TK;             ///< int64: the inverse, flattened
  std::vector<int64_t> first_E;  ///< E + 1 bounds of the experts' rows
};
ExpertOrder sorted_by_expert(const at::Tensor& experts_TK, int64_t num_experts);

struct ExpertMatrices {
  ExpertWeights w1_EFD, w2_EDF, w3_EFD;
};

/// What the backward pass needs of the forward pass; rows R are sorted by expert.
struct ExpertActivations {
  at::Tensor x_RD, gate_RF, up_RF, h_RF, weight_R, token_R, row_TK;
  std::vector<int64_t> first_E;
  int64_t K;
};

/// -> out_TD, wide.
at::Tensor routed_experts_forward_cpu(const at::Tensor& x_TD,
                                      const at::Tensor& experts_TK,
                                      const at::Tensor& weights_TK,
                                      const ExpertMatrices& w,
                                      double limit,
                                      ExpertActivations& activations);

struct ExpertGradients {
  at::Tensor dx_TD, dweights_TK;
  at::Tensor dw1_EFD, dw2_EDF, dw3_EFD;  ///< undefined where not wanted
};

/// wanted: of w1, w2 and w3.
ExpertGradients routed_experts_backward_cpu(const at::Tensor& dout_TD,
                                            const ExpertActivations& activations,
                                            const ExpertMatrices& w,
                                            double limit,
                                            const std::array<bool, 3>& wanted);

}  // namespace braid
