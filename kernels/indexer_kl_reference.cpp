#include <algorithm>
#include <limits>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/sizes.h"
#include "kernels/index_topk.h"
#include "kernels/indexer_kl.h"
#include "kernels/precision.h"
#include "kernels/query_chunks.h"

namespace braid {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();

// softmax over the set; zeros where the set is empty.
at::Tensor softmax_over(const at::Tensor& logits, const at::Tensor& set) {
  const auto any = set.any(-1, true);
  return logits.masked_fill(set.logical_not(), kNever)
      .masked_fill(any.logical_not(), 0)
      .softmax(-1)
      .masked_fill(any.logical_not(), 0);
}

// The target [B, S, C], in log space.
at::Tensor target_of(const AttentionTeacher& teacher, const at::Tensor& set_BSC) {
  const at::NoGradGuard teacher_is_constant;
  const auto [B, S, N, H] = sizes<4>(teacher.q_BSNH);
  const auto q = widened(teacher.q_BSNH).reshape({B, S * N, H});
  const auto logits = [&, B = B, S = S, N = N](const at::Tensor& keys_BXH,
                                               const at::Tensor& sees_BSX) {
    return (at::matmul(q, widened(keys_BXH).transpose(1, 2)) * teacher.scale)
        .view({B, S, N, keys_BXH.size(1)})
        .masked_fill(sees_BSX.unsqueeze(2).logical_not(), kNever);
  };
  const auto raw = logits(teacher.kv_BUH, mask_of(teacher.window, teacher.kv_BUH.size(1)));
  const auto entries = logits(teacher.compressed_BCH, set_BSC);
  const auto sink =
      teacher.sink_N.to(entries.scalar_type()).view({1, 1, N, 1}).expand({B, S, N, 1});
  const auto log_sum = at::cat({entries, raw, sink}, -1).logsumexp(-1, true);
  return softmax_over((entries - log_sum).logsumexp(2), set_BSC);
}

// From all scores at once.
IndexerKl kl_of_queries(const IndexParts& index,
                        const AttentionTeacher& teacher,
                        const SeenEntries& seen,
                        int64_t recalled) {
  const auto set_BSC = mask_of(seen, index.keys_BCH.size(1));
  const auto scores_BSC = index_scores(index.q_BSIH, index.keys_BCH, index.weight_BSI);
  const auto target_BSC = target_of(teacher, set_BSC);
  const auto outside = set_BSC.logical_not(), none = set_BSC.any(-1, true).logical_not();
  const auto log_student = scores_BSC.masked_fill(outside, kNever)
                               .masked_fill(none, 0)
                               .log_softmax(-1)
                               .masked_fill(outside, 0);
  const auto kl_sum = (at::xlogy(target_BSC, target_BSC) - target_BSC * log_student).sum();
  auto recall_sum = at::zeros({2}, scores_BSC.options().requires_grad(false));
  if (recalled > 0) {
    const auto chooses_BS = set_BSC.sum(-1) > recalled;
    const auto top = top_entries(scores_BSC.detach(), set_BSC, recalled);
    recall_sum = at::stack({((target_BSC * top).sum(-1) * chooses_BS).sum(),
                            chooses_BS.sum().to(recall_sum.scalar_type())});
  }
  return {kl_sum, recall_sum};
}

}  // namespace

IndexerKl indexer_kl_reference(const IndexParts& index,
                               const AttentionTeacher& teacher,
                               const SeenEntries& seen,
                               int64_t recalled) {
  const auto [B, S, N, H] = sizes<4>(teacher.q_BSNH);
  const int64_t C = index.keys_BCH.size(1), U = teacher.kv_BUH.size(1);
  const int64_t scores = B * std::max(N * (U + C), index.q_BSIH.size(2) * C);
  return indexer_kl_reference_in_chunks(
      index, teacher, seen, recalled, queries_at_once(S, scores, wide_type(index.q_BSIH)));
}

IndexerKl indexer_kl_reference_in_chunks(const IndexParts& index,
                                         const AttentionTeacher& teacher,
                                         const SeenEntries& seen,
                                         int64_t recalled,
                                         int64_t at_once) {
  const auto q_BSNH = teacher.q_BSNH.detach();
  const AttentionTeacher all{q_BSNH,
                             teacher.kv_BUH.detach(),
                             teacher.compressed_BCH.detach(),
                             teacher.sink_N.detach(),
                             teacher.window,
                             teacher.scale};
  const auto run = [=](const std::vector<at::Tensor>& in, int64_t first, int64_t count) {
    auto own = all;
    own.q_BSNH = all.q_BSNH.narrow(1, first, count);
    own.window = all.window.of_queries(first, count);
    const auto sums =
        kl_of_queries({in[0], in[2], in[1]}, own, seen.of_queries(first, count), recalled);
    return std::vector<at::Tensor>{sums.kl_sum, sums.recall_sum};
  };
  const auto sums = in_query_chunks({index.q_BSIH, index.weight_BSI, index.keys_BCH},
                                    q_BSNH.size(1),
                                    at_once,
                                    {.run = run, .of_queries = 2, .sums = true});
  return {sums[0], sums[1]};
}

}  // namespace braid
