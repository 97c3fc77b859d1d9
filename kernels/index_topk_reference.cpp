#include <limits>

#include <ATen/ATen.h>

#include "core/sizes.h"
#include "kernels/index_topk.h"
#include "kernels/precision.h"

namespace braid {

at::Tensor index_scores(const at::Tensor& q_BSIH,
                        const at::Tensor& keys_BCH,
                        const at::Tensor& weight_BSI) {
  const auto [B, S, I, H] = sizes<4>(q_BSIH);
  const auto products =
      at::matmul(widened(q_BSIH).reshape({B, S * I, H}), widened(keys_BCH).transpose(1, 2));
  return (products.relu().view({B, S, I, keys_BCH.size(1)}) * weight_BSI.unsqueeze(-1)).sum(2);
}

at::Tensor top_entries(const at::Tensor& scores_BSC, const at::Tensor& mask_BSC, int64_t k) {
  if (k >= scores_BSC.size(-1)) {
    return mask_BSC;
  }
  const auto masked =
      scores_BSC.masked_fill(mask_BSC.logical_not(), -std::numeric_limits<double>::infinity());
  // A stable descending sort keeps equal scores in index order.
  const auto order =
      std::get<1>(at::sort(masked, /*stable=*/true, /*dim=*/-1, /*descending=*/true));
  const auto chosen = at::zeros_like(mask_BSC).scatter(-1, order.narrow(-1, 0, k), true);
  return chosen.logical_and(mask_BSC);
}

at::Tensor index_topk_reference(const at::Tensor& q_BSIH,
                                const at::Tensor& keys_BCH,
                                const at::Tensor& weight_BSI,
                                const KeyRange& visible,
                                int64_t k) {
  const auto scores = index_scores(q_BSIH, keys_BCH, weight_BSI);
  const auto chosen =
      entries_of(top_entries(scores, mask_of(visible, keys_BCH.size(1)), k)).chosen_BSK;
  return at::constant_pad_nd(chosen, {0, k - chosen.size(2)}, -1);
}

}  // namespace braid
