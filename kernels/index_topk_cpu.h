#pragma once
// The CPU kernel of index_topk (kernels/index_topk.h): blocks of queries against panels of keys,
// with a running selection for each query.
#include <cstdint>

#include "kernels/bfloat16.h"

namespace braid {

/// Arrays without gaps. T, float or double, is the wide type of E.
template <class E, class T = E>
struct IndexTopkProblem {
  const E *q, *keys;           ///< [B, S, I, H], [B, C, H]
  const T* weight;             ///< [B, S, I]
  const int64_t *first, *end;  ///< [B, S]: the visible entries
  int64_t B, S, I, H, C, k;
};

/// chosen [B, S, k].
template <class E, class T>
void index_topk_cpu(const IndexTopkProblem<E, T>&, int64_t* chosen);

}  // namespace braid
