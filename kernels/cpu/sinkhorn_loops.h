#pragma once
#include <cstdint>

#include "kernels/cpu/isa.h"

namespace braid {

/// The most streams that these loops and those of mhc_loops.h have room for.
inline constexpr int64_t kMaxStreams = 8;

/// sinkhorn.h on `tokens` matrices [M, M], M <= kMaxStreams. T is float or double.
BRAID_DECLARE_CPU(template <class T> void sinkhorn_forward(
    const T* logits, T* matrix, int64_t tokens, int64_t M, int64_t iterations, T eps))

/// The gradient of the logits; repeats the iterations instead of keeping them.
BRAID_DECLARE_CPU(template <class T> void sinkhorn_backward(const T* logits,
                                                            const T* dmatrix,
                                                            T* dlogits,
                                                            int64_t tokens,
                                                            int64_t M,
                                                            int64_t iterations,
                                                            T eps))

}  // namespace braid
