#pragma once
#include <cstdint>

#include "kernels/cpu_isa.h"

namespace braid {

/// The part of attention between the two matrix products, on a tile of `queries` tokens x N heads
/// (rows) against J keys.  T is float or double; float32 uses the exponential of cpu_loops.h. sees
/// [queries, J]: 1 where a query may look at a key.  sink [N], log_sum [rows].

/// scores [rows, J], q . k -> probabilities, in place; log_sum receives log(sum of e^z, sink
/// included).
BRAID_DECLARE_CPU(template <class T> void attention_softmax(T* scores,
                                                            const uint8_t* sees,
                                                            const T* sink,
                                                            T* log_sum,
                                                            int64_t queries,
                                                            int64_t N,
                                                            int64_t J,
                                                            T scale))

/// scores -> probabilities again (from log_sum), dscores: gradient of the probabilities -> gradient
/// of q . k, both in place.  dsink [N] is added to.
BRAID_DECLARE_CPU(template <class T> void attention_softmax_backward(T* scores,
                                                                     T* dscores,
                                                                     const uint8_t* sees,
                                                                     const T* sink,
                                                                     const T* log_sum,
                                                                     T* dsink,
                                                                     int64_t queries,
                                                                     int64_t N,
                                                                     int64_t J,
                                                                     T scale))

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
