#pragma once
// Products of blocks that fit the cache, called from inside our own threads.
#include <cstdint>

#include <ATen/native/CPUBlas.h>

#include "kernels/attention_cpu.h"

namespace braid {

/// C [m, n] (+)= A [m, k] B [k, n], row-major, rows of B and C `ldb` and `ldc` elements apart.
/// After the last one of a thread: at::native::cpublas::brgemm_release().
inline void small_product(const float* A,
                          const float* B,
                          float* C,
                          int64_t m,
                          int64_t n,
                          int64_t k,
                          int64_t ldb,
                          int64_t ldc,
                          bool accumulate = false) {
  at::native::cpublas::brgemm(m, n, k, k, ldb, ldc, accumulate, A, B, C);
}
inline void small_product(const double* A,
                          const double* B,
                          double* C,
                          int64_t m,
                          int64_t n,
                          int64_t k,
                          int64_t ldb,
                          int64_t ldc,
                          bool accumulate = false) {
  BRAID_CPU(dense_product<double>)(A, B, C, m, n, k, ldb, ldc, accumulate);
}

}  // namespace braid
