// Local letter: R rows, one for each (token, choice) pair, sorted by expert.
#include <vector>

#include <ATen/ATen.h>

#include "core/sizes.h"
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
                           const at::Tensor& a_ErI,
                           const at::Tensor& b_EOr,
                           double scale,
                           int64_t e) {
  const auto y = project_reference(x, w);
  if (!a_ErI.defined()) {
    return y;
  }
  const auto narrow = project_reference(x, a_ErI.select(0, e)) * scale;
  return y + project_reference(narrow, b_EOr.select(0, e));
}

// The (token, choice) pairs sorted by expert, pairs of one expert in token order.
struct SortedPairs {
  at::Tensor pair_R;             // sorted row -> t * K + k
  at::Tensor row_TK;             // the inverse, flattened
  std::vector<int64_t> first_E;  // E + 1 bounds of the experts' rows
};

SortedPairs sorted_pairs(const at::Tensor& experts_TK, int64_t E) {
  const auto [expert_R, pair_R] =
      at::sort(experts_TK.flatten(), /*stable=*/true, /*dim=*/0, /*descending=*/false);
  const auto numbers = at::arange(pair_R.numel(), pair_R.options());
  const auto row_TK = at::empty_like(pair_R).scatter(0, pair_R, numbers);
  const auto bounds =
      at::searchsorted(expert_R, at::arange(E + 1, expert_R.options())).to(at::kCPU).contiguous();
  const auto* first = bounds.const_data_ptr<int64_t>();
  require(first[0] == 0 && first[E] == pair_R.numel(),
          "[routed_experts] an expert of a token is not one of the ",
          E,
          " experts; check the model's tid2eid tables");
  return {pair_R, row_TK, {first, first + E + 1}};
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
  const auto [T, K] = sizes<2>(experts_TK);
  const int64_t E = w1_EFD.sizes()[0];
  const auto order = sorted_pairs(experts_TK, E);
  const auto x_RD = x_TD.index_select(0, order.pair_R.div(K, "floor"));
  const auto weight_R1 = weights_TK.flatten().index_select(0, order.pair_R).unsqueeze(-1);
  const auto w1 = matrices_of(w1_EFD), w2 = matrices_of(w2_EDF), w3 = matrices_of(w3_EFD);
  std::vector<at::Tensor> y_RD;
  for (int64_t e = 0; e < E; ++e) {
    const int64_t first = order.first_E[e], rows = order.first_E[e + 1] - first;
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
  return widened(at::cat(y_RD)).index_select(0, order.row_TK).view({T, K, -1}).sum(1);
}

}  // namespace braid
