#pragma once
// The CPU driver of sinkhorn.h; T is float or double.
#include <cstdint>

#include "kernels/cpu/sinkhorn_loops.h"

namespace braid {

/// `tokens` matrices [M, M], M <= kMaxStreams.
template <class T>
struct SinkhornProblem {
  int64_t tokens, M, iterations;
  T eps;
  const T* logits;  // [tokens, M, M]
};

template <class T>
void sinkhorn_forward_cpu(const SinkhornProblem<T>& problem, T* matrix);
template <class T>
void sinkhorn_backward_cpu(const SinkhornProblem<T>& problem, const T* dmatrix, T* dlogits);

}  // namespace braid
