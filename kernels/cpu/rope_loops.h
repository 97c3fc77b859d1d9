#pragma once
#include <cstdint>

#include "kernels/cpu/isa.h"

namespace braid {

/// rope.h on `tokens` tokens of N heads of H channels, one rotation [P/2] per token; `sign` -1
/// undoes it.
BRAID_DECLARE_CPU(template <class T> void rope_rotate(const T* x,
                                                      const T* cos,
                                                      const T* sin,
                                                      T* y,
                                                      int64_t tokens,
                                                      int64_t N,
                                                      int64_t H,
                                                      int64_t P,
                                                      T sign))

}  // namespace braid
