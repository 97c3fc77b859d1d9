#pragma once
#include <cstdint>

#include "kernels/cpu/isa.h"

namespace braid {

/// out[c * out_stride + r] = in[r * stride + c] for rows r and columns c.
BRAID_DECLARE_CPU(template <class T> void transpose(
    const T* in, int64_t stride, T* out, int64_t out_stride, int64_t rows, int64_t columns))

/// C [m, n] (+)= A [m, k] B [k, n], row-major, rows of B and C ldb and ldc apart: for float64,
/// which the library's small products do not serve.
BRAID_DECLARE_CPU(template <class T> void dense_product(const T* A,
                                                        const T* B,
                                                        T* C,
                                                        int64_t m,
                                                        int64_t n,
                                                        int64_t k,
                                                        int64_t ldb,
                                                        int64_t ldc,
                                                        bool accumulate))

}  // namespace braid
