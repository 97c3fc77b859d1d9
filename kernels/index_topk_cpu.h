#pragma once
// The CPU kernel of index_topk (kernels/index_topk.h): blocks of queries against panels of keys,
// with a running selection for each query.
#include <cstdint>

namespace braid {

/// Arrays without gaps. T is float or double, and so is E on the CPU.
template <class E, class T = E>
struct IndexTopkProblem {
  const E *q, *keys;           ///< [B, S, I, H], [B, C, H]
  const T* weight;             ///< [B, S, I]
  const int64_t *first, *end;  ///< [B, S]: the visible entries
  int64_t B, S, I, H, C, k;
};

/// chosen [B, S, k].
template <class T>
void index_topk_cpu(const IndexTopkProblem<T>&, int64_t* chosen);

}  // namespace braid
