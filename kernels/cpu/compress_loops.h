#pragma once
#include <cstdint>

#include "kernels/cpu/isa.h"

namespace braid {

/// One sequence's tokens and which of them pool into its C entries of H channels.
template <class T>
struct PooledSequence {
  const T* projected;  ///< [U, 2, width]: keys, gates
  const T* ape;        ///< [R, width]
  const int64_t* rows;
  const int64_t* previous;   ///< with overlap, else null; both [C, R]
  const bool* has_previous;  ///< [C]
  int64_t R, H, width;       ///< width = H; with overlap 2 H
};

/// entries [C, H] and the log-sum-exp of each channel's gates, log_sum [C, H], of the entries
/// [begin, end).
BRAID_DECLARE_CPU(template <class T> void compress_forward(
    const PooledSequence<T>& p, T* entries, T* log_sum, int64_t begin, int64_t end))

/// Adds to dprojected and dape, shaped as projected and ape, what all C entries give to the
/// channels [begin, end) of an entry, in the order of the entries.
BRAID_DECLARE_CPU(template <class T> void compress_backward(const PooledSequence<T>& p,
                                                            const T* entries,
                                                            const T* log_sum,
                                                            const T* dentries,
                                                            T* dprojected,
                                                            T* dape,
                                                            int64_t C,
                                                            int64_t begin,
                                                            int64_t end))

}  // namespace braid
