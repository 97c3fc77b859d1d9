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

/// 2^(byte - 127), of which the smallest is subnormal; 255 is not a number.
__device__ inline float e8m0_value(uint32_t byte) {
  const uint32_t bits = byte == 0 ? 0x00400000u : byte << 23;
  return __uint_as_float(byte == 255 ? 0x7fc00000u : bits);
}

}  // namespace braid::cuda
