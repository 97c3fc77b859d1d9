#include <limits>

#include <ATen/ATen.h>

#include "core/sizes.h"
#include "kernels/attention.h"
#include "kernels/precision.h"

namespace braid {

at::Tensor attention_reference(const at::Tensor& q_BSNH,
                               const at::Tensor& kv_BUH,
                               const at::Tensor& compressed_BCH,
                               const at::Tensor& sink_N,
                               const KeyRange& window,
                               const SeenEntries& entries,
                               double scale) {
  const auto [B, S, N, H] = sizes<4>(q_BSNH);
  const auto keys = at::cat({widened(kv_BUH), widened(compressed_BCH)}, 1);
  const auto sees =
      at::cat({mask_of(window, kv_BUH.size(1)), mask_of(entries, compressed_BCH.size(1))}, 2)
          .unsqueeze(2);
  const auto q = widened(q_BSNH).reshape({B, S * N, H});
  auto scores = (at::matmul(q, keys.transpose(1, 2)) * scale).view({B, S, N, keys.size(1)});
  scores = scores.masked_fill(sees.logical_not(), -std::numeric_limits<double>::infinity());
  const auto sink = sink_N.to(scores.scalar_type()).view({1, 1, N, 1}).expand({B, S, N, 1});
  const auto weights = at::cat({scores, sink}, -1).softmax(-1).narrow(-1, 0, keys.size(1));
  return at::matmul(weights.reshape({B, S * N, keys.size(1)}), keys)
      .view({B, S, N, H})
      .to(q_BSNH.scalar_type());
}

}  // namespace braid
