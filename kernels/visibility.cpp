#include "kernels/visibility.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "core/sizes.h"

namespace braid {

at::Tensor mask_of(const KeyRange& range, int64_t keys) {
  const auto index = at::arange(keys, at::kLong);
  return (index >= range.first_BS.unsqueeze(-1)).logical_and(index < range.end_BS.unsqueeze(-1));
}

at::Tensor mask_of(const SeenEntries& entries, int64_t count) {
  const auto& chosen = entries.chosen_BSK;
  if (!chosen.defined()) {
    return mask_of(entries.range, count);
  }
  // One more column takes what is not there.
  return at::zeros({chosen.size(0), chosen.size(1), count + 1}, at::kBool)
      .scatter_(2, chosen.where(chosen >= 0, at::full({}, count, at::kLong)), true)
      .narrow(2, 0, count);
}

SeenEntries entries_of(const at::Tensor& mask_BSC) {
  const auto [B, S, C] = sizes<3>(mask_BSC);
  const int64_t K = C == 0 ? 0 : mask_BSC.sum(-1).max().item<int64_t>();
  // Entries that are seen sort before the others, each by its number.
  const auto index = at::arange(C, at::kLong);
  const auto order = at::where(mask_BSC, index, index + C);
  const auto first_K = std::get<0>(order.sort(-1)).narrow(-1, 0, K);
  return {{at::zeros({B, S}, at::kLong), at::full({B, S}, C, at::kLong)},
          first_K.where(first_K < C, at::full({}, -1, at::kLong)).contiguous()};
}

}  // namespace braid
