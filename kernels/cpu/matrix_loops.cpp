#include "kernels/cpu/matrix_loops.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace braid::BRAID_CPU_ISA {

namespace {

#if defined(__AVX2__)
// 8 x 8 in registers.
inline void transpose_8x8(const float* in, int64_t stride, float* out, int64_t out_stride) {
  __m256 r[8], t[8];
  for (int i = 0; i < 8; ++i) {
    r[i] = _mm256_loadu_ps(in + i * stride);
  }
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  for (int half = 0; half < 2; ++half) {
    const int i = 4 * half;
    r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xEE);
    r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xEE);
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(out + i * out_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
    _mm256_storeu_ps(out + (i + 4) * out_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
  }
}
#endif

template <class T>
void transpose_8x8(const T* in, int64_t stride, T* out, int64_t out_stride) {
  for (int64_t r = 0; r < 8; ++r) {
    for (int64_t c = 0; c < 8; ++c) {
      out[c * out_stride + r] = in[r * stride + c];
    }
  }
}

}  // namespace

template <class T>
void transpose(
    const T* in, int64_t stride, T* out, int64_t out_stride, int64_t rows, int64_t columns) {
  const int64_t whole_rows = rows / 8 * 8, whole_columns = columns / 8 * 8;
  for (int64_t c = 0; c < whole_columns; c += 8) {
    for (int64_t r = 0; r < whole_rows; r += 8) {
      transpose_8x8(in + r * stride + c, stride, out + c * out_stride + r, out_stride);
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = r < whole_rows ? whole_columns : 0; c < columns; ++c) {
      out[c * out_stride + r] = in[r * stride + c];
    }
  }
}

template <class T>
void dense_product(const T* A,
                   const T* B,
                   T* C,
                   int64_t m,
                   int64_t n,
                   int64_t k,
                   int64_t ldb,
                   int64_t ldc,
                   bool accumulate) {
  for (int64_t i = 0; i < m; ++i, A += k, C += ldc) {
    for (int64_t j = 0; j < n && !accumulate; ++j) {
      C[j] = 0;
    }
    for (int64_t p = 0; p < k; ++p) {
      for (int64_t j = 0; j < n; ++j) {
        C[j] += A[p] * B[p * ldb + j];
      }
    }
  }
}

#define BRAID_INSTANTIATE(T)                                                 \
  template void transpose(const T*, int64_t, T*, int64_t, int64_t, int64_t); \
  template void dense_product(                                               \
      const T*, const T*, T*, int64_t, int64_t, int64_t, int64_t, int64_t, bool);
BRAID_INSTANTIATE(float)
BRAID_INSTANTIATE(double)
#undef BRAID_INSTANTIATE

}  // namespace braid::BRAID_CPU_ISA
