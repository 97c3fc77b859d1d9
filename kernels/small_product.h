#pragma once
// Products of blocks that fit the cache, called from inside our own threads.
#include <cstdint>

#include <ATen/native/CPUBlas.h>

#include "core/profile.h"
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
  count_flops(2 * m * n * k);
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
  count_flops(2 * m * n * k);
  BRAID_CPU(dense_product<double>)(A, B, C, m, n, k, ldb, ldc, accumulate);
}

/// The same for any k: pieces of k go by whose rows of B fit the cache.
inline void deep_product(const float* A,
                         const float* B,
                         float* C,
                         int64_t m,
                         int64_t n,
                         int64_t k,
                         int64_t ldb,
                         int64_t ldc) {
  constexpr int64_t kDepth = 512;
  count_flops(2 * m * n * k);
  for (int64_t k0 = 0; k0 < k; k0 += kDepth) {
    const int64_t depth = k - k0 < kDepth ? k - k0 : kDepth;
    at::native::cpublas::brgemm(m, n, depth, k, ldb, ldc, k0 > 0, A + k0, B + k0 * ldb, C);
  }
}
inline void deep_product(const double* A,
                         const double* B,
                         double* C,
                         int64_t m,
                         int64_t n,
                         int64_t k,
                         int64_t ldb,
                         int64_t ldc) {
  small_product(A, B, C, m, n, k, ldb, ldc);
}

}  // namespace braid
