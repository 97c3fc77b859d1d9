#include <limits>

#include <ATen/ATen.h>

#include "core/sizes.h"
#include "kernels/compress.h"

namespace braid {
namespace {

// [B, U, X] and row numbers [B, C, R] -> [B, C, R, X].
at::Tensor gathered(const at::Tensor& rows_BUX, const at::Tensor& index_BCR) {
  const auto [B, U, X] = sizes<3>(rows_BUX);
  const auto flat = index_BCR + (at::arange(B, index_BCR.options()) * U).view({B, 1, 1});
  return rows_BUX.reshape({B * U, X})
      .index_select(0, flat.flatten())
      .view({B, index_BCR.size(1), index_BCR.size(2), X});
}

}  // namespace

at::Tensor compress_reference(const at::Tensor& projected_BUX,
                              const at::Tensor& ape,
                              const PooledRows& pooled) {
  const auto parts = projected_BUX.chunk(2, -1);
  auto keys = gathered(parts[0], pooled.rows_BCR),
       gates = gathered(parts[1], pooled.rows_BCR) + ape;
  if (pooled.previous_BCR.defined()) {
    const int64_t H = ape.size(1) / 2;
    const auto before = gathered(parts[0].narrow(-1, 0, H), pooled.previous_BCR);
    const auto absent = pooled.has_previous_BC.logical_not().unsqueeze(-1).unsqueeze(-1);
    const auto gates_before =
        (gathered(parts[1].narrow(-1, 0, H), pooled.previous_BCR) + ape.narrow(-1, 0, H))
            .masked_fill(absent, -std::numeric_limits<double>::infinity());
    keys = at::cat({before, keys.narrow(-1, H, H)}, 2);
    gates = at::cat({gates_before, gates.narrow(-1, H, H)}, 2);
  }
  return (gates.softmax(2) * keys).sum(2);
}

}  // namespace braid
