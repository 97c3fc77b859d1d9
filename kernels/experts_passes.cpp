// Local letter: R rows, one for each (token, choice) pair, sorted by expert.
#include "kernels/experts_passes.h"

#include <ATen/ATen.h>

#include "kernels/expert_products.h"
#include "kernels/expert_rows.h"
#include "kernels/swiglu.h"
#include "kernels/weight.h"

namespace braid {
namespace {

// scale a[rows of e] w[e]^T.
at::Tensor scaled_products(const at::Tensor& a,
                           const ExpertWeights& w_EOI,
                           double scale,
                           const ExpertBounds& bounds) {
  return expert_products(a, {&w_EOI}, bounds)[0].mul_(scale);
}

}  // namespace

at::Tensor routed_experts_forward(const at::Tensor& x_TD,
                                  const at::Tensor& experts_TK,
                                  const at::Tensor& weights_TK,
                                  const ExpertMatrices& w,
                                  const ExpertAdapters& adapters,
                                  double limit,
                                  ExpertActivations& activations) {
  const int64_t K = experts_TK.size(1);
  const auto order = sorted_by_expert(experts_TK, w.w1_EFD.sizes()[0]);
  const auto [x_RD, weight_R] = permute_to_experts(x_TD, weights_TK, order.row_TK);
  const auto inner = expert_products(x_RD, {&w.w1_EFD, &w.w3_EFD}, order.bounds);
  const auto &gate_RF = inner[0], &up_RF = inner[1];
  const auto& bounds = order.bounds;
  at::Tensor z13_Rr, z2_Rr;
  if (adapters.a13_ErD.defined()) {
    z13_Rr = scaled_products(x_RD, adapters.a13_ErD, adapters.scale13, bounds);
    add_expert_products({{z13_Rr, adapters.b1_EFr, gate_RF}, {z13_Rr, adapters.b3_EFr, up_RF}},
                        bounds);
  }
  const auto h_RF = swiglu_rows(gate_RF, up_RF, weight_R, limit);
  const auto y_RD = expert_products(h_RF, {&w.w2_EDF}, bounds)[0];
  if (adapters.a2_ErF.defined()) {
    z2_Rr = scaled_products(h_RF, adapters.a2_ErF, adapters.scale2, bounds);
    add_expert_products({{z2_Rr, adapters.b2_EDr, y_RD}}, bounds);
  }
  activations = {x_RD, gate_RF, up_RF, h_RF, weight_R, order.row_TK, z13_Rr, z2_Rr, bounds, K};
  return combine_of_experts(y_RD, order.row_TK, K);
}

ExpertGradients routed_experts_backward(const at::Tensor& dout_TD,
                                        const ExpertActivations& activations,
                                        const ExpertMatrices& w,
                                        const ExpertAdapters& adapters,
                                        double limit,
                                        const WantedExperts& wanted) {
  const auto& [x_RD, gate_RF, up_RF, h_RF, weight_R, row_TK, z13_Rr, z2_Rr, bounds, K] =
      activations;
  const auto dy_RD = combine_of_experts_backward(dout_TD, row_TK, K, x_RD.scalar_type());
  auto dh_RF = at::empty_like(h_RF), dx_RD = at::empty_like(x_RD);
  ExpertGradients gradients;
  const auto gradient = [&](bool is_wanted, const at::Tensor& left, const at::Tensor& right) {
    return is_wanted ? expert_gradients({left}, right, activations.bounds)[0] : at::Tensor();
  };

  expert_products_back(dy_RD, w.w2_EDF, bounds, dh_RF);
  gradients.dw2_EDF = gradient(wanted.w2, dy_RD, h_RF);
  if (z2_Rr.defined()) {
    auto dz_Rr = at::empty_like(z2_Rr);
    expert_products_back(dy_RD, adapters.b2_EDr, bounds, dz_Rr);
    dz_Rr.mul_(adapters.scale2);
    expert_products_back(dz_Rr, adapters.a2_ErF, bounds, dh_RF, /*accumulate=*/true);
    gradients.da2_ErF = gradient(wanted.a2, dz_Rr, h_RF);
    gradients.db2_EDr = gradient(wanted.b2, dy_RD, z2_Rr);
  }

  const auto inner = swiglu_rows_backward(gate_RF, up_RF, weight_R, dh_RF, limit);
  // The gradients of w1 and w3 share x.
  std::vector<at::Tensor> of_inner;
  if (wanted.w1) {
    of_inner.push_back(inner.dgate);
  }
  if (wanted.w3) {
    of_inner.push_back(inner.dup);
  }
  const auto dw_inner = expert_gradients(of_inner, x_RD, bounds);
  gradients.dw1_EFD = wanted.w1 ? dw_inner.front() : at::Tensor();
  gradients.dw3_EFD = wanted.w3 ? dw_inner.back() : at::Tensor();
  expert_products_back(inner.dgate, w.w1_EFD, bounds, dx_RD);
  expert_products_back(inner.dup, w.w3_EFD, bounds, dx_RD, /*accumulate=*/true);
  if (z13_Rr.defined()) {
    auto dz_Rr = at::empty_like(z13_Rr);
    expert_products_back(inner.dgate, adapters.b1_EFr, bounds, dz_Rr);
    expert_products_back(inner.dup, adapters.b3_EFr, bounds, dz_Rr, /*accumulate=*/true);
    dz_Rr.mul_(adapters.scale13);
    expert_products_back(dz_Rr, adapters.a13_ErD, bounds, dx_RD, /*accumulate=*/true);
    gradients.da13_ErD = gradient(wanted.a13, dz_Rr, x_RD);
    gradients.db1_EFr = gradient(wanted.b1, inner.dgate, z13_Rr);
    gradients.db3_EFr = gradient(wanted.b3, inner.dup, z13_Rr);
  }
  const auto of_tokens = permute_to_experts_backward({dx_RD, inner.dweight}, row_TK, K);
  gradients.dx_TD = of_tokens.tokens_TD;
  gradients.dweights_TK = of_tokens.weights_TK;
  return gradients;
}

}  // namespace braid
