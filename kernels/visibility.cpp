#include "kernels/visibility.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/sizes.h"

namespace braid {
namespace {

void require_within(const char* op, const KeyRange& range, int64_t keys, const char* what) {
  require(range.first_BS.numel() == 0 || (range.first_BS.min().item<int64_t>() >= 0 &&
                                          range.end_BS.max().item<int64_t>() <= keys),
          "[",
          op,
          "] queries see ",
          what,
          " that do not exist; there are ",
          keys);
}

}  // namespace

KeyRange KeyRange::to(at::Device device) const {
  return {first_BS.to(device), end_BS.to(device), most};
}

KeyRange KeyRange::of_queries(int64_t first, int64_t count) const {
  return {first_BS.narrow(1, first, count), end_BS.narrow(1, first, count), most};
}

int64_t KeyRange::most_of(int64_t keys) const {
  return most < 0 ? keys : std::min(most, keys);
}

SeenEntries SeenEntries::to(at::Device device) const {
  return {range.to(device), chosen_BSK.defined() ? chosen_BSK.to(device) : chosen_BSK};
}

SeenEntries SeenEntries::of_queries(int64_t first, int64_t count) const {
  return {range.of_queries(first, count),
          chosen_BSK.defined() ? chosen_BSK.narrow(1, first, count) : chosen_BSK};
}

at::Tensor SeenEntries::lists() const {
  if (!chosen_BSK.defined() || chosen_BSK.size(2) > 0) {
    return chosen_BSK.defined() ? chosen_BSK.contiguous() : chosen_BSK;
  }
  return at::constant_pad_nd(chosen_BSK, {0, 1}, -1);
}

int64_t SeenEntries::most_of(int64_t entries) const {
  return chosen_BSK.defined() ? chosen_BSK.size(2) : range.most_of(entries);
}

void require_keys_exist(const char* op,
                        const KeyRange& window,
                        int64_t raw_keys,
                        const SeenEntries& seen,
                        int64_t entries) {
  require_within(op, window, raw_keys, "raw keys");
  require_within(op, seen.range, entries, "entries");
  const auto& chosen = seen.chosen_BSK;
  require(!chosen.defined() || chosen.numel() == 0 || chosen.max().item<int64_t>() < entries,
          "[",
          op,
          "] queries chose entries that do not exist; there are ",
          entries);
}

at::Tensor mask_of(const KeyRange& range, int64_t keys) {
  const auto index = at::arange(keys, range.first_BS.options());
  return (index >= range.first_BS.unsqueeze(-1)).logical_and(index < range.end_BS.unsqueeze(-1));
}

at::Tensor mask_of(const SeenEntries& entries, int64_t count) {
  const auto& chosen = entries.chosen_BSK;
  if (!chosen.defined()) {
    return mask_of(entries.range, count);
  }
  // One more column takes what is not there.
  return at::zeros({chosen.size(0), chosen.size(1), count + 1}, chosen.options().dtype(at::kBool))
      .scatter_(2, chosen.masked_fill(chosen < 0, count), true)
      .narrow(2, 0, count);
}

SeenEntries entries_of(const at::Tensor& mask_BSC) {
  const auto [B, S, C] = sizes<3>(mask_BSC);
  const int64_t K = C == 0 ? 0 : mask_BSC.sum(-1).max().item<int64_t>();
  // Entries that are seen sort before the others, each by its number.
  const auto options = mask_BSC.options().dtype(at::kLong);
  const auto index = at::arange(C, options);
  const auto order = at::where(mask_BSC, index, index + C);
  const auto first_K = std::get<0>(order.sort(-1)).narrow(-1, 0, K);
  return {{at::zeros({B, S}, options), at::full({B, S}, C, options)},
          first_K.masked_fill(first_K >= C, -1)};
}

}  // namespace braid
