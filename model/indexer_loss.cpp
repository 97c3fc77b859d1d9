#include "model/indexer_loss.h"

#include <algorithm>
#include <limits>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/sizes.h"
#include "kernels/index_topk.h"
#include "kernels/precision.h"

namespace braid {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();
constexpr int64_t kScoreElements = int64_t{1} << 24;  // of one slice of queries

// softmax over the set; zeros where the set is empty.
at::Tensor softmax_over(const at::Tensor& logits, const at::Tensor& set) {
  const auto any = set.any(-1, true);
  return logits.masked_fill(set.logical_not(), kNever)
      .masked_fill(any.logical_not(), 0)
      .softmax(-1)
      .masked_fill(any.logical_not(), 0);
}

KeyRange of_queries(const KeyRange& range, int64_t first, int64_t count) {
  return {range.first_BS.narrow(1, first, count), range.end_BS.narrow(1, first, count)};
}

}  // namespace

at::Tensor indexer_target(const at::Tensor& q_BSNH,
                          const at::Tensor& kv_BUH,
                          const at::Tensor& compressed_BCH,
                          const at::Tensor& sink_N,
                          const KeyRange& window,
                          const at::Tensor& set_BSC,
                          double scale) {
  const at::NoGradGuard teacher_is_constant;
  const auto [B, S, N, H] = sizes<4>(q_BSNH);
  const int64_t C = compressed_BCH.size(1);
  const int64_t slice =
      std::clamp<int64_t>(kScoreElements / std::max<int64_t>(1, B * N * (C + 64)), 1, S);
  std::vector<at::Tensor> targets;
  for (int64_t first = 0; first < S; first += slice) {
    const int64_t s = std::min(slice, S - first);
    const auto set_BsC = set_BSC.narrow(1, first, s);
    const auto seen = of_queries(window, first, s);
    const auto q = widened(q_BSNH.narrow(1, first, s)).reshape({B, s * N, H});
    const auto logits = [&](const at::Tensor& keys_BXH, const at::Tensor& sees_BsX) {
      return (at::matmul(q, widened(keys_BXH).transpose(1, 2)) * scale)
          .view({B, s, N, keys_BXH.size(1)})
          .masked_fill(sees_BsX.unsqueeze(2).logical_not(), kNever);
    };
    // The rows of raw keys that any query of the slice sees: a short stretch, for a window.
    const int64_t begin = seen.first_BS.min().item<int64_t>(),
                  count = seen.end_BS.max().item<int64_t>() - begin;
    const KeyRange shifted{seen.first_BS - begin, seen.end_BS - begin};
    const auto raw = logits(kv_BUH.narrow(1, begin, count), mask_of(shifted, count));
    const auto entries = logits(compressed_BCH, set_BsC);
    const auto sink = sink_N.to(entries.scalar_type()).view({1, 1, N, 1}).expand({B, s, N, 1});
    const auto log_sum = at::cat({entries, raw, sink}, -1).logsumexp(-1, true);
    targets.push_back(softmax_over((entries - log_sum).logsumexp(2), set_BsC));
  }
  return at::cat(targets, 1);
}

at::Tensor indexer_kl_sum(const at::Tensor& scores_BSC,
                          const at::Tensor& target_BSC,
                          const at::Tensor& set_BSC) {
  const auto outside = set_BSC.logical_not(), none = set_BSC.any(-1, true).logical_not();
  const auto log_student = scores_BSC.masked_fill(outside, kNever)
                               .masked_fill(none, 0)
                               .log_softmax(-1)
                               .masked_fill(outside, 0);
  return (at::xlogy(target_BSC, target_BSC) - target_BSC * log_student).sum();
}

at::Tensor indexer_recall_sum(const at::Tensor& scores_BSC,
                              const at::Tensor& target_BSC,
                              const at::Tensor& set_BSC,
                              int64_t k) {
  const auto chooses_BS = set_BSC.sum(-1) > k;
  const auto found_BS = (target_BSC * top_entries(scores_BSC, set_BSC, k)).sum(-1);
  return at::stack({(found_BS * chooses_BS).sum(), chooses_BS.sum().to(found_BS.scalar_type())});
}

}  // namespace braid
