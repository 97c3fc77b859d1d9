#include "model/compressor.h"

#include <ATen/ATen.h>

#include "kernels/compress.h"
#include "kernels/precision.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"

namespace braid {

Compressor::Compressor(const Scope& scope,
                       int64_t hidden_size,
                       int64_t channels,
                       int64_t ratio,
                       bool overlap,
                       double eps)
    : ratio_(ratio), overlap_(overlap), eps_(eps) {
  const int64_t width = overlap ? 2 * channels : channels;
  ape_ = scope.constant("ape", {ratio, width}, 0);
  wkv_ = scope.wide_linear("wkv.weight", {width, hidden_size});
  wgate_ = scope.wide_linear("wgate.weight", {width, hidden_size});
  norm_ = scope.constant("norm.weight", {channels}, 1);
}

at::Tensor Compressor::forward(const at::Tensor& h_BSD,
                               const Geometry& all,
                               CompressorState* state) const {
  const auto& geometry = all.compression.at(ratio_);
  auto projected_BUX = forward_joined(widened(h_BSD), {wkv_, wgate_});
  if (state != nullptr && state->projected_BUX.defined()) {
    projected_BUX = at::cat({state->projected_BUX, projected_BUX}, 1);
  }
  projected_BUX = with_rows_before(all.ranks, projected_BUX, geometry.rows_before);
  PooledRows pooled{geometry.rows_BCR, {}, {}};
  if (overlap_) {
    pooled = {geometry.rows_BCR, geometry.previous_BCR, geometry.has_previous_BC};
  }
  const auto ape = ape_.to(projected_BUX.scalar_type());
  const auto pooled_BCH = compress(projected_BUX, ape, pooled).to(h_BSD.scalar_type());
  auto entries_BCH =
      rope(rms_norm(pooled_BCH, norm_, eps_), geometry.rotation.cos, geometry.rotation.sin);
  if (state != nullptr) {
    if (state->entries_BCH.defined()) {
      entries_BCH = at::cat({state->entries_BCH, entries_BCH}, 1);
    }
    const int64_t past = state->first_row + projected_BUX.size(1),
                  first_row = first_kept_row(ratio_, past);
    state->projected_BUX = projected_BUX.narrow(1, first_row - state->first_row, past - first_row);
    state->first_row = first_row;
    state->entries_BCH = entries_BCH;
  }
  return all.with_entries_of_all(entries_BCH, ratio_);
}

}  // namespace braid
