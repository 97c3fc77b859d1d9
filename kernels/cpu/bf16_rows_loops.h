#pragma once
#include <cstdint>

#include "kernels/cpu/isa.h"

namespace braid {

/// bfloat16 -> float32, exact.
BRAID_DECLARE_CPU(void widen(const uint16_t* from, float* to, int64_t count))

/// float32 -> the nearest bfloat16, ties to even; any NaN becomes a quiet one. Where one
/// instruction does it, numbers below 2^-126 become zero.
BRAID_DECLARE_CPU(void narrow(const float* from, uint16_t* to, int64_t count))

}  // namespace braid
