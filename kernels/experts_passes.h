#pragma once
// The two passes of routed_experts (kernels/experts.h), autograd apart: rows sorted by expert, and
// grouped products.
//
// Local letter: R rows, one for each (token, choice) pair, sorted by expert.
#include <ATen/core/Tensor.h>

#include "kernels/expert_rows.h"
#include "kernels/experts.h"
#include "kernels/weight.h"

namespace braid {

struct ExpertMatrices {
  ExpertWeights w1_EFD, w2_EDF, w3_EFD;
};

/// What the backward pass needs of the forward pass; rows R are sorted by expert.
struct ExpertActivations {
  at::Tensor x_RD, gate_RF, up_RF, h_RF, weight_R, row_TK;
  at::Tensor z13_Rr, z2_Rr;  ///< scale x A^T of the adapters; undefined without them
  ExpertBounds bounds;
  int64_t K;
};

/// -> out_TD, wide. On the CPU, or a device that has kernels for rows (kernels/expert_rows.h).
at::Tensor routed_experts_forward(const at::Tensor& x_TD,
                                  const at::Tensor& experts_TK,
                                  const at::Tensor& weights_TK,
                                  const ExpertMatrices& w,
                                  const ExpertAdapters& adapters,
                                  double limit,
                                  ExpertActivations& activations);

struct ExpertGradients {
  at::Tensor dx_TD, dweights_TK;
  at::Tensor dw1_EFD, dw2_EDF, dw3_EFD;  ///< undefined where not wanted
  at::Tensor da13_ErD, db1_EFr, db3_EFr, da2_ErF, db2_EDr;
};

/// Which gradients a backward pass is asked for, beside those of x and the routing weights.
struct WantedExperts {
  bool w1 = false, w2 = false, w3 = false;
  bool a13 = false, b1 = false, b3 = false, a2 = false, b2 = false;
};
ExpertGradients routed_experts_backward(const at::Tensor& dout_TD,
                                        const ExpertActivations& activations,
                                        const ExpertMatrices& w,
                                        const ExpertAdapters& adapters,
                                        double limit,
                                        const WantedExperts& wanted);

}  // namespace braid
