// Local letter: R rows, one for each (token, choice) pair, sorted by expert.
#include <vector>

#include <ATen/ATen.h>

#include "kernels/expert_rows.h"
#include "kernels/experts.h"
#include "kernels/precision.h"
#include "kernels/swiglu.h"

namespace braid {
namespace {

std::vector<Weight> matrices_of(const ExpertWeights& weights) {
  if (weights.quantized()) {
    return weights.each();
  }
  const auto matrices = weights.stack().unbind(0);
  return {matrices.begin(), matrices.end()};
}

// x W^T + scale (x A^T) B^T of expert e; without a second part where there is no A.
at::Tensor adapted_product(const at::Tensor& x,
                           const Weight& w,
                           const ExpertWeights& a_ErI,
                           const ExpertWeights& b_EOr,
                           double scale,
                           int64_t e) {
  const auto y = project_reference(x, w);
  if (!a_ErI.defined()) {
    return y;
  }
  const auto narrow = project_reference(x, a_ErI.stack().select(0, e)) * scale;
  return y + project_reference(narrow, b_EOr.stack().select(0, e));
}

}  // namespace

at::Tensor routed_experts_reference(const at::Tensor& x_TD,
                                    const at::Tensor& experts_TK,
                                    const at::Tensor& weights_TK,
                                    const ExpertWeights& w1_EFD,
                                    const ExpertWeights& w2_EDF,
                                    const ExpertWeights& w3_EFD,
                                    double limit,
                                    const ExpertAdapters& adapters) {
  const int64_t E = w1_EFD.sizes()[0];
  const auto order = sorted_by_expert_reference(experts_TK, E);
  const auto [x_RD, weight_R] = permute_to_experts_reference(x_TD, weights_TK, order.row_TK);
  const auto weight_R1 = weight_R.unsqueeze(-1);
  const auto w1 = matrices_of(w1_EFD), w2 = matrices_of(w2_EDF), w3 = matrices_of(w3_EFD);
  std::vector<at::Tensor> y_RD;
  const auto& first_E = order.bounds.on_host();
  for (int64_t e = 0; e < E; ++e) {
    const int64_t first = first_E[e], rows = first_E[e + 1] - first;
    if (rows == 0) {
      continue;
    }
    const auto x = x_RD.narrow(0, first, rows);
    const auto& [a13_ErD, b1_EFr, b3_EFr, a2_ErF, b2_EDr, scale13, scale2] = adapters;
    const auto hidden =
        clamped_swiglu_reference(adapted_product(x, w1[e], a13_ErD, b1_EFr, scale13, e),
                                 adapted_product(x, w3[e], a13_ErD, b3_EFr, scale13, e),
                                 limit);
    const auto weighted = (widened(hidden) * weight_R1.narrow(0, first, rows)).to(x.scalar_type());
    y_RD.push_back(adapted_product(weighted, w2[e], a2_ErF, b2_EDr, scale2, e));
  }
  if (y_RD.empty()) {
    return at::zeros_like(x_TD, x_TD.options().dtype(wide_type(x_TD)));
  }
  return combine_of_experts_reference(at::cat(y_RD), order.row_TK, experts_TK.size(1));
}

}  // namespace braid
