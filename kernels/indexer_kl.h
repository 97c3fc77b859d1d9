#pragma once
// What trains a lightning indexer: its scores should rank compressed entries as the attention
// weighs them (docs/equations.md (27), (28); DeepSeek-V3.2's rule with V4's joint softmax).
#include "kernels/visibility.h"

namespace braid {

/// What index scores are made of (kernels/index_topk.h), of any floating type.
struct IndexParts {
  at::Tensor q_BSIH, keys_BCH, weight_BSI;
};

/// The attention whose weights are the target, its arguments as of attention().
struct AttentionTeacher {
  at::Tensor q_BSNH, kv_BUH, compressed_BCH, sink_N;
  KeyRange window;
  double scale;
};

struct IndexerKl {
  at::Tensor kl_sum;      ///< [] wide
  at::Tensor recall_sum;  ///< [2] wide
};

/// kl_sum: over tokens, KL(p || softmax of the index scores), both over the entries `seen`. The
/// target p: per head the softmax over window, these entries and sink together, restricted to the
/// entries; summed over heads; normalized to sum 1. It is finite however far below the window the
/// entries lie. Tokens without entries contribute 0.
///
/// recall_sum: over the tokens that see more than `recalled` entries, the sum of the target's mass
/// on the `recalled` entries of the highest scores, and the number of these tokens; {0, 0} if it is
/// 0.
///
/// Gradients: the index's queries, keys and weights; the teacher is constant. They are taken while
/// a block of scores exists, as the target is known then: memory O(S + C) beside the results, never
/// S x C. Where queries and keys of both are bfloat16 and the machine multiplies pairs, the scores'
/// gradients are rounded to bfloat16 (by 2^-9 each) as factors of those of queries and keys; all
/// else is wide. Differentiable once. Key numbers out of range are an error on the CPU
/// (kernels/device.h).
IndexerKl indexer_kl(const IndexParts& index,
                     const AttentionTeacher& teacher,
                     const SeenEntries& seen,
                     int64_t recalled);

/// The same in plain LibTorch, from all scores, by chunks of queries where those of the teacher or
/// the products of the index would take more than kTwinScoreBytes (kernels/query_chunks.h).
IndexerKl indexer_kl_reference(const IndexParts& index,
                               const AttentionTeacher& teacher,
                               const SeenEntries& seen,
                               int64_t recalled);
/// The same, `at_once` queries at a time.
IndexerKl indexer_kl_reference_in_chunks(const IndexParts& index,
                                         const AttentionTeacher& teacher,
                                         const SeenEntries& seen,
                                         int64_t recalled,
                                         int64_t at_once);

}  // namespace braid
