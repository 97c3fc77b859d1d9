#pragma once
#include <cstdint>

#include "kernels/cpu/isa.h"

namespace braid {

/// streams.h on `tokens` tokens of M streams of width D; T is float or double, E is T, or Bfloat16
/// with T = float.
BRAID_DECLARE_CPU(template <class T> void collapse_forward(
    const T* X, const T* pre, T* x, int64_t tokens, int64_t M, int64_t D))
BRAID_DECLARE_CPU(template <class T> void collapse_backward(
    const T* X, const T* pre, const T* dx, T* dX, T* dpre, int64_t tokens, int64_t M, int64_t D))
BRAID_DECLARE_CPU(template <class E, class T> void expand_forward(const E* X,
                                                                  const E* y,
                                                                  const T* post,
                                                                  const T* mix,
                                                                  E* out,
                                                                  int64_t tokens,
                                                                  int64_t M,
                                                                  int64_t D))
BRAID_DECLARE_CPU(template <class E, class T> void expand_backward(const E* X,
                                                                   const E* y,
                                                                   const T* post,
                                                                   const T* mix,
                                                                   const E* dout,
                                                                   E* dX,
                                                                   E* dy,
                                                                   T* dpost,
                                                                   T* dmix,
                                                                   int64_t tokens,
                                                                   int64_t M,
                                                                   int64_t D))

}  // namespace braid
