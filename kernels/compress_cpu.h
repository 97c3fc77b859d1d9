#pragma once
// The CPU kernel of compress (kernels/compress.h).
#include <cstdint>

namespace braid {

/// Arrays without gaps. T is float or double.
template <class T>
struct CompressProblem {
  const T *projected, *ape;        ///< [B, U, 2 width], [R, width]
  const int64_t *rows, *previous;  ///< [B, C, R]; previous: with overlap, else null
  const bool* has_previous;        ///< [B, C]
  int64_t B, U, C, R, H, width;    ///< width = H; with overlap 2 H
};

/// entries [B, C, H] and log_sum [B, C, H], the log-sum-exp of each channel's gates.
template <class T>
void compress_forward_cpu(const CompressProblem<T>&, T* entries, T* log_sum);

/// Adds to dprojected, shaped as projected, and to each sequence's own dape [B, R, width].
template <class T>
void compress_backward_cpu(const CompressProblem<T>&,
                           const T* entries,
                           const T* log_sum,
                           const T* dentries,
                           T* dprojected,
                           T* dape);

}  // namespace braid
