#pragma once
#include <cstdint>

#include "kernels/cpu/isa.h"

namespace braid {

/// h = weight[row] silu(min(gate, limit)) clamp(up, +-limit) on `rows` rows of width F; weight may
/// be null (1). float32 uses an own exponential, relative error below 2e-7.
BRAID_DECLARE_CPU(template <class T> void swiglu_forward(
    const T* gate, const T* up, const T* weight, T* h, int64_t rows, int64_t F, T limit))

/// Gradients of gate, up and, when weight is not null, of weight [rows].
BRAID_DECLARE_CPU(template <class T> void swiglu_backward(const T* gate,
                                                          const T* up,
                                                          const T* weight,
                                                          const T* dh,
                                                          T* dgate,
                                                          T* dup,
                                                          T* dweight,
                                                          int64_t rows,
                                                          int64_t F,
                                                          T limit))

}  // namespace braid
