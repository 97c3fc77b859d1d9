#include <limits>

#include <ATen/ATen.h>

#include "core/sizes.h"
#include "kernels/attention.h"
#include "kernels/precision.h"
#include "kernels/query_chunks.h"

namespace braid {
namespace {

// With all scores at once.
at::Tensor attention_of_queries(const at::Tensor& q_BSNH,
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

}  // namespace

at::Tensor attention_reference(const at::Tensor& q_BSNH,
                               const at::Tensor& kv_BUH,
                               const at::Tensor& compressed_BCH,
                               const at::Tensor& sink_N,
                               const KeyRange& window,
                               const SeenEntries& entries,
                               double scale) {
  const auto [B, S, N, H] = sizes<4>(q_BSNH);
  const int64_t keys = kv_BUH.size(1) + compressed_BCH.size(1);
  return attention_reference_in_chunks(q_BSNH,
                                       kv_BUH,
                                       compressed_BCH,
                                       sink_N,
                                       window,
                                       entries,
                                       scale,
                                       queries_at_once(S, B * N * keys, wide_type(q_BSNH)));
}

at::Tensor attention_reference_in_chunks(const at::Tensor& q_BSNH,
                                         const at::Tensor& kv_BUH,
                                         const at::Tensor& compressed_BCH,
                                         const at::Tensor& sink_N,
                                         const KeyRange& window,
                                         const SeenEntries& entries,
                                         double scale,
                                         int64_t at_once) {
  const auto run = [=](const std::vector<at::Tensor>& in, int64_t first, int64_t count) {
    return std::vector<at::Tensor>{attention_of_queries(in[0],
                                                        in[1],
                                                        in[2],
                                                        in[3],
                                                        window.of_queries(first, count),
                                                        entries.of_queries(first, count),
                                                        scale)};
  };
  return in_query_chunks(
      {q_BSNH, kv_BUH, compressed_BCH, sink_N}, q_BSNH.size(1), at_once, {.run = run})[0];
}

}  // namespace braid
