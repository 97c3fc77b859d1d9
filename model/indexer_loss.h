#pragma once
// What trains a lightning indexer: its scores should rank compressed entries as the attention
// weighs them (architecture.md 3 and 3b; DeepSeek-V3.2's rule with V4's joint softmax).
#include "kernels/visibility.h"

namespace braid {

/// The teacher: how the attention's mass on compressed entries is spread, p_BSC wide.  Per head the
/// softmax over window, entries of `set_BSC` and sink together, restricted to the entries; summed
/// over heads; normalised to sum 1 (all zero where the set is empty).  Arguments as of attention().
/// No gradient.  Works in log space and on some queries at a time: memory O(B N (W + C)) for each.
at::Tensor indexer_target(const at::Tensor& q_BSNH,
                          const at::Tensor& kv_BUH,
                          const at::Tensor& compressed_BCH,
                          const at::Tensor& sink_N,
                          const KeyRange& window,
                          const at::Tensor& set_BSC,
                          double scale);

/// Sum over tokens of KL(p || softmax of the index scores over the set), wide, [].  Tokens without
/// entries contribute 0.  Gradient for the scores only.
at::Tensor indexer_kl_sum(const at::Tensor& scores_BSC,
                          const at::Tensor& target_BSC,
                          const at::Tensor& set_BSC);

/// Over the tokens whose set has more than k entries: [2] = the sum of the target's mass on the k
/// entries of the highest scores, and the number of these tokens.
at::Tensor indexer_recall_sum(const at::Tensor& scores_BSC,
                              const at::Tensor& target_BSC,
                              const at::Tensor& set_BSC,
                              int64_t k);

}  // namespace braid
