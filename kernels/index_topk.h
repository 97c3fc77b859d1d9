#pragma once
#include "kernels/visibility.h"

namespace braid {

/// The lightning indexer's choice: of the entries that a query sees, the k with the highest scores
///
///   I_{t,c} = sum_h w_{t,h} relu(q_{t,h} . key_c),
///
/// of equal scores the lower one. q_BSIH, keys_BCH of one type, weight_BSI and scores wide:
/// products of bfloat16 are exact. int64 [B, S, k], ascending, -1 where fewer are seen. Works by
/// blocks of queries and entries with a running selection: no scores are kept, memory O(S k). No
/// gradient. Source: docs/equations.md (25), (26).
at::Tensor index_topk(const at::Tensor& q_BSIH,
                      const at::Tensor& keys_BCH,
                      const at::Tensor& weight_BSI,
                      const KeyRange& visible,
                      int64_t k);

/// The same in plain LibTorch, from all scores, by chunks of queries where the products would take
/// more than kTwinScoreBytes (kernels/query_chunks.h).
at::Tensor index_topk_reference(const at::Tensor& q_BSIH,
                                const at::Tensor& keys_BCH,
                                const at::Tensor& weight_BSI,
                                const KeyRange& visible,
                                int64_t k);
/// The same, `at_once` queries at a time.
at::Tensor index_topk_reference_in_chunks(const at::Tensor& q_BSIH,
                                          const at::Tensor& keys_BCH,
                                          const at::Tensor& weight_BSI,
                                          const KeyRange& visible,
                                          int64_t k,
                                          int64_t at_once);

/// All scores, wide [B, S, C], of q and keys of one type; with gradients.
at::Tensor index_scores(const at::Tensor& q_BSIH,
                        const at::Tensor& keys_BCH,
                        const at::Tensor& weight_BSI);

/// The k entries of the highest scores among those of the mask, of equal scores the lower one.
/// bool [B, S, C] with at most k set per query.
at::Tensor top_entries(const at::Tensor& scores_BSC, const at::Tensor& mask_BSC, int64_t k);

}  // namespace braid
