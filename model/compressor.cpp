#include "model/compressor.h"

#include <limits>

#include <ATen/ATen.h>

#include "core/sizes.h"
#include "kernels/precision.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/weight.h"

namespace braid {
namespace {

// [B, U, X] and row numbers [B, C, R] -> [B, C, R, X].
at::Tensor gathered(const at::Tensor& rows_BUX, const at::Tensor& index_BCR) {
  const auto [B, U, X] = sizes<3>(rows_BUX);
  const auto flat = index_BCR + (at::arange(B, at::kLong) * U).view({B, 1, 1});
  return rows_BUX.reshape({B * U, X})
      .index_select(0, flat.flatten())
      .view({B, index_BCR.size(1), index_BCR.size(2), X});
}

}  // namespace

Compressor::Compressor(const Scope& scope,
                       int64_t hidden_size,
                       int64_t channels,
                       int64_t ratio,
                       bool overlap,
                       double eps)
    : channels_(channels), ratio_(ratio), overlap_(overlap), eps_(eps) {
  const int64_t width = overlap ? 2 * channels : channels;
  ape_ = scope.constant("ape", {ratio, width}, 0);
  wkv_ = scope.normal("wkv.weight", {width, hidden_size});
  wgate_ = scope.normal("wgate.weight", {width, hidden_size});
  norm_ = scope.constant("norm.weight", {channels}, 1);
}

at::Tensor Compressor::forward(const at::Tensor& h_BSD,
                               const Geometry& all,
                               CompressorState* state) const {
  const auto& geometry = all.compression.at(ratio_);
  auto keys_BUX = project(widened(h_BSD), wkv_), gates_BUX = project(widened(h_BSD), wgate_);
  if (state != nullptr && state->keys_BUX.defined()) {
    keys_BUX = at::cat({state->keys_BUX, keys_BUX}, 1);
    gates_BUX = at::cat({state->gates_BUX, gates_BUX}, 1);
  }
  keys_BUX = with_rows_before(all.ranks, keys_BUX, geometry.rows_before);
  gates_BUX = with_rows_before(all.ranks, gates_BUX, geometry.rows_before);
  const auto ape = ape_.to(gates_BUX.scalar_type());
  auto keys = gathered(keys_BUX, geometry.rows_BCR),
       gates = gathered(gates_BUX, geometry.rows_BCR) + ape;
  if (overlap_) {
    const int64_t H = channels_;
    const auto before = gathered(keys_BUX.narrow(-1, 0, H), geometry.previous_BCR);
    const auto absent = geometry.has_previous_BC.logical_not().unsqueeze(-1).unsqueeze(-1);
    const auto gates_before =
        (gathered(gates_BUX.narrow(-1, 0, H), geometry.previous_BCR) + ape.narrow(-1, 0, H))
            .masked_fill(absent, -std::numeric_limits<double>::infinity());
    keys = at::cat({before, keys.narrow(-1, H, H)}, 2);
    gates = at::cat({gates_before, gates.narrow(-1, H, H)}, 2);
  }
  const auto pooled_BCH = (gates.softmax(2) * keys).sum(2).to(h_BSD.scalar_type());
  auto entries_BCH =
      rope(rms_norm(pooled_BCH, norm_, eps_), geometry.rotation.cos, geometry.rotation.sin);
  if (state != nullptr) {
    if (state->entries_BCH.defined()) {
      entries_BCH = at::cat({state->entries_BCH, entries_BCH}, 1);
    }
    const int64_t past = state->first_row + keys_BUX.size(1),
                  first_row = first_kept_row(ratio_, past);
    state->keys_BUX = keys_BUX.narrow(1, first_row - state->first_row, past - first_row);
    state->gates_BUX = gates_BUX.narrow(1, first_row - state->first_row, past - first_row);
    state->first_row = first_row;
    state->entries_BCH = entries_BCH;
  }
  return all.with_entries_of_all(entries_BCH, ratio_);
}

}  // namespace braid
