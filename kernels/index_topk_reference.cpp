#include <algorithm>
#include <limits>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/sizes.h"
#include "kernels/index_topk.h"
#include "kernels/precision.h"
#include "kernels/query_chunks.h"

namespace braid {

at::Tensor index_scores(const at::Tensor& q_BSIH,
                        const at::Tensor& keys_BCH,
                        const at::Tensor& weight_BSI) {
  const auto [B, S, I, H] = sizes<4>(q_BSIH);
  const auto products =
      at::matmul(widened(q_BSIH).reshape({B, S * I, H}), widened(keys_BCH).transpose(1, 2));
  return (products.relu().view({B, S, I, keys_BCH.size(1)}) * weight_BSI.unsqueeze(-1)).sum(2);
}

namespace {

// The numbers of the entries, those of the mask first, by falling scores; of equal scores the lower
// one first.
at::Tensor best_first(const at::Tensor& scores_BSC, const at::Tensor& mask_BSC) {
  const auto masked =
      scores_BSC.masked_fill(mask_BSC.logical_not(), -std::numeric_limits<double>::infinity());
  return std::get<1>(at::sort(masked, /*stable=*/true, /*dim=*/-1, /*descending=*/true));
}

// From all scores at once.
at::Tensor topk_of_queries(const at::Tensor& q_BSIH,
                           const at::Tensor& keys_BCH,
                           const at::Tensor& weight_BSI,
                           const KeyRange& visible,
                           int64_t k) {
  const int64_t C = keys_BCH.size(1), picks = std::min(k, C);
  const auto seen = mask_of(visible, C);
  const auto order = best_first(index_scores(q_BSIH, keys_BCH, weight_BSI), seen);
  const auto best = order.narrow(-1, 0, picks);
  // What is not seen goes behind the others, as entry C.
  const auto ascending =
      std::get<0>(best.masked_fill(seen.gather(-1, best).logical_not(), C).sort(-1));
  return at::constant_pad_nd(ascending.masked_fill(ascending == C, -1), {0, k - picks}, -1);
}

}  // namespace

at::Tensor top_entries(const at::Tensor& scores_BSC, const at::Tensor& mask_BSC, int64_t k) {
  if (k >= scores_BSC.size(-1)) {
    return mask_BSC;
  }
  const auto order = best_first(scores_BSC, mask_BSC);
  const auto chosen = at::zeros_like(mask_BSC).scatter(-1, order.narrow(-1, 0, k), true);
  return chosen.logical_and(mask_BSC);
}

at::Tensor index_topk_reference(const at::Tensor& q_BSIH,
                                const at::Tensor& keys_BCH,
                                const at::Tensor& weight_BSI,
                                const KeyRange& visible,
                                int64_t k) {
  const auto [B, S, I, H] = sizes<4>(q_BSIH);
  const auto at_once = queries_at_once(S, B * I * keys_BCH.size(1), wide_type(q_BSIH));
  return index_topk_reference_in_chunks(q_BSIH, keys_BCH, weight_BSI, visible, k, at_once);
}

at::Tensor index_topk_reference_in_chunks(const at::Tensor& q_BSIH,
                                          const at::Tensor& keys_BCH,
                                          const at::Tensor& weight_BSI,
                                          const KeyRange& visible,
                                          int64_t k,
                                          int64_t at_once) {
  const at::NoGradGuard no_gradient;
  const auto run = [=](const std::vector<at::Tensor>& in, int64_t first, int64_t count) {
    return std::vector<at::Tensor>{
        topk_of_queries(in[0], keys_BCH, in[1], visible.of_queries(first, count), k)};
  };
  return in_query_chunks(
      {q_BSIH, weight_BSI}, q_BSIH.size(1), at_once, {.run = run, .of_queries = 2})[0];
}

}  // namespace braid
