#pragma once
#include <cstdint>

#include "kernels/bfloat16.h"
#include "kernels/cpu/isa.h"

namespace braid {

/// codec.h on one row. T, the type of the arithmetic, is float or double; Out is T or Bfloat16.
/// scales: one T for each 128 (FP8) or 32 (FP4) columns, beginning with the first column's.
BRAID_DECLARE_CPU(template <class T, class Out> void decode_fp8_row(
    const uint8_t* codes, const T* scales, Out* out, int64_t columns))
BRAID_DECLARE_CPU(template <class T, class Out> void decode_fp4_row(
    const uint8_t* codes, const T* scales, Out* out, int64_t columns))

/// values[i] / scale -> codes, saturating; FP4 writes count / 2 bytes.  `signed_zero`: a zero keeps
/// its sign.
BRAID_DECLARE_CPU(template <class T> void encode_fp8_run(
    const T* values, T scale, bool signed_zero, uint8_t* codes, int64_t count))
BRAID_DECLARE_CPU(template <class T> void encode_fp4_run(
    const T* values, T scale, bool signed_zero, uint8_t* codes, int64_t count))

/// The largest magnitude.
BRAID_DECLARE_CPU(template <class T> T largest_magnitude(const T* values, int64_t count))

}  // namespace braid
