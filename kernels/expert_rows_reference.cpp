#include <ATen/ATen.h>

#include "core/sizes.h"
#include "kernels/expert_rows.h"
#include "kernels/precision.h"

namespace braid {
namespace {

// The token of each row: row_TK the other way round.
at::Tensor token_of_rows(const at::Tensor& row_TK, int64_t K) {
  return row_TK.argsort(/*stable=*/true, 0, /*descending=*/false).div(K, "floor");
}

at::Tensor sums_of_tokens(const at::Tensor& rows_RD, const at::Tensor& row_TK, int64_t K) {
  return widened(rows_RD).index_select(0, row_TK).view({-1, K, rows_RD.size(1)}).sum(1);
}

}  // namespace

ExpertOrder sorted_by_expert_reference(const at::Tensor& experts_TK, int64_t E) {
  const auto [expert_R, pair_R] =
      at::sort(experts_TK.flatten(), /*stable=*/true, /*dim=*/0, /*descending=*/false);
  const auto bounds_E1 = at::searchsorted(expert_R, at::arange(E + 1, expert_R.options()));
  const auto numbers = at::arange(pair_R.numel(), pair_R.options());
  return {at::empty_like(pair_R).scatter(0, pair_R, numbers),
          ExpertBounds(bounds_E1.contiguous(), pair_R.numel())};
}

ExpertRows permute_to_experts_reference(const at::Tensor& x_TD,
                                        const at::Tensor& weights_TK,
                                        const at::Tensor& row_TK) {
  const auto pair_R = row_TK.argsort(/*stable=*/true, 0, /*descending=*/false);
  return {x_TD.index_select(0, pair_R.div(weights_TK.size(1), "floor")),
          weights_TK.flatten().index_select(0, pair_R)};
}

TokenRows permute_to_experts_backward_reference(const ExpertRows& gradient,
                                                const at::Tensor& row_TK,
                                                int64_t K) {
  return {sums_of_tokens(gradient.rows_RD, row_TK, K).to(gradient.rows_RD.scalar_type()),
          gradient.weight_R.index_select(0, row_TK).view({-1, K})};
}

at::Tensor combine_of_experts_reference(const at::Tensor& rows_RD,
                                        const at::Tensor& row_TK,
                                        int64_t K) {
  return sums_of_tokens(rows_RD, row_TK, K);
}

at::Tensor combine_of_experts_backward_reference(const at::Tensor& dout_TD,
                                                 const at::Tensor& row_TK,
                                                 int64_t K,
                                                 at::ScalarType type) {
  return dout_TD.to(type).index_select(0, token_of_rows(row_TK, K));
}

}  // namespace braid
