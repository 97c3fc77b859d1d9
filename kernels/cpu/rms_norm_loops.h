#pragma once
#include <cstdint>

#include "kernels/cpu/isa.h"

namespace braid {

/// rms_norm.h on `rows` rows of width D; T is float or double, weight may be null. inverse_rms
/// [rows] is kept for the backward pass.
BRAID_DECLARE_CPU(template <class T> void rms_norm_forward(
    const T* x, const T* weight, T* y, T* inverse_rms, int64_t rows, int64_t D, T eps))

/// dx, and dweight [D] added to what is there (not touched when weight is null).
BRAID_DECLARE_CPU(template <class T> void rms_norm_backward(const T* x,
                                                            const T* weight,
                                                            const T* inverse_rms,
                                                            const T* dy,
                                                            T* dx,
                                                            T* dweight,
                                                            int64_t rows,
                                                            int64_t D))

}  // namespace braid
