#pragma once
// The CPU kernel of the indexer's loss (kernels/indexer_kl.h): tiles of a few queries whose set is
// a stretch of entries, or of one query that lists its own. Rows of a product are keys, columns are
// heads and queries: keys are read as they lie.
#include <cstdint>

namespace braid {

/// Arrays without gaps. T is float or double; I heads of h channels are the index's, N heads of H
/// channels the attention's.
template <class T>
struct IndexerKlProblem {
  const T *index_q, *index_keys, *weight;  ///< [B, S, I, h], [B, C, h], [B, S, I]
  const T *q, *kv, *compressed, *sink;     ///< [B, S, N, H], [B, U, H], [B, C, H], [N]
  const int64_t *window_first, *window_end, *entry_first, *entry_end;  ///< [B, S]
  const int64_t* chosen;                                               ///< [B, S, K], or null
  int64_t B, S, I, h, N, H, U, C, K;
  int64_t recalled;
  T scale;
  bool in_bf16 = false;  ///< queries and keys of both are values of bfloat16
};

/// The gradient of the keys is summed in this many fixed parts, whatever the threads.
inline constexpr int64_t kIndexerKlParts = 16;

/// Gradients are null where none are wanted.
template <class T>
struct IndexerKlResults {
  T* kl;      ///< [B, S]
  T* recall;  ///< [B, S]: a query's term of recall_sum, -1 where it has none
  T *dq, *dweight;
  T* dkeys;  ///< [kIndexerKlParts, B, C, h], added to
};

template <class T>
void indexer_kl_cpu(const IndexerKlProblem<T>&, const IndexerKlResults<T>&);

}  // namespace braid
