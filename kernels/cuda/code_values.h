#pragma once
// The values of codes and scales (kernels/codec.h). The bits above a code are not looked at.
#include "kernels/cuda/device.h"

namespace braid::cuda {

/// S EEEE MMM: exponent and mantissa move into place together; below 2^-6 the codes are steps of
/// 2^-9, and 0x7f is not a number.
__device__ inline float e4m3_value(uint32_t code) {
  const uint32_t magnitude = code & 0x7f;
  uint32_t bits = magnitude < 8 ? __float_as_uint(static_cast<float>(magnitude) / 512)
                                : (magnitude << 20) + (120u << 23);
  bits = magnitude == 0x7f ? 0x7fc00000u : bits;
  return __uint_as_float(bits | (code & 0x80) << 24);
}

/// S EE M: as above; code 1 is 0.5 and code 0 is 0.
__device__ inline float e2m1_value(uint32_t code) {
  const uint32_t magnitude = code & 7;
  const uint32_t bits = magnitude < 2 ? magnitude * 0x3f000000u : (magnitude << 22) + (126u << 23);
  return __uint_as_float(bits | (code & 8) << 28);
}

/// The values of the two codes of a byte as a pair of bfloat16, the lower code's in the lower half.
/// The upper and the lower bytes of the eight magnitudes (0, 0.5, 1, 1.5, 2, 3, 4, 6) are tables.
__device__ inline uint32_t e2m1_pair(uint32_t codes) {
  const uint32_t places = codes & 0x77;
  const uint32_t upper = __byte_perm(0x3f3f3f00u, 0x40404040u, places),
                 lower = __byte_perm(0xc0800000u, 0xc0804000u, places);
  return __byte_perm(lower, upper, 0x5140) | (codes & 0x08) << 12 | (codes & 0x80) << 24;
}

/// 2^(byte - 127) as bfloat16, of which the smallest is subnormal; 255 is not a number.
__device__ inline uint32_t e8m0_bits(uint32_t byte) {
  return byte == 0 ? 0x0040u : byte == 255 ? 0x7fc0u : byte << 7;
}

__device__ inline float e8m0_value(uint32_t byte) {
  return __uint_as_float(e8m0_bits(byte) << 16);
}

}  // namespace braid::cuda
