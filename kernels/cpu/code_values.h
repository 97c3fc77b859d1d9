#pragma once
// The values of codes (kernels/codec.h), a vector of them at once. Included after BRAID_CPU_ISA
// names the instruction set; `Words` and `Floats` are vectors of as many uint32_t and float.
#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace braid::BRAID_CPU_ISA {
namespace {

// S EEEE MMM in the low bits, zeros above: exponent and mantissa move into place together; below
// 2^-6 the codes are steps of 2^-9, and 0x7f is not a number.
template <class Floats, class Words>
Floats e4m3_values(Words codes) {
  const Words magnitude = codes & 0x7f;
  const Floats subnormal = __builtin_convertvector(magnitude, Floats) * (1.0f / 512);
  Words bits = magnitude < 8 ? (Words)subnormal : (magnitude << 20) + (120u << 23);
  bits = magnitude == 0x7f ? Words{} + 0x7fc00000u : bits;
  return (Floats)(bits | (codes & 0x80) << 24);
}

// S EE M in the low bits, anything above: as above; code 1 is 0.5 and code 0 is 0.
template <class Floats, class Words>
Floats e2m1_values(Words codes) {
#if defined(__AVX512F__)
  if constexpr (sizeof(Words) == 64) {
    const __m512 values =
        _mm512_setr_ps(0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6);
    return (Floats)_mm512_maskz_permutexvar_ps(0xffff, (__m512i)codes, values);
  }
#elif defined(__AVX2__)
  if constexpr (sizeof(Words) == 32) {
    const __m256 values = _mm256_setr_ps(0, 0.5f, 1, 1.5f, 2, 3, 4, 6);
    const auto magnitudes = (Words)_mm256_permutevar8x32_ps(values, (__m256i)codes);
    return (Floats)(magnitudes | (codes & 8) << 28);
  }
#endif
  const Words magnitude = codes & 7;
  const Words bits =
      magnitude < 2 ? (Words{} - magnitude) & 0x3f000000u : (magnitude << 22) + (126u << 23);
  return (Floats)(bits | (codes & 8) << 28);
}

// The bits of 2^(byte - 127), an F8_E8M0 scale in the low bits with zeros above, as floats: of one
// uint32_t, or of a vector of them. The smallest is subnormal.
template <class Words>
constexpr Words e8m0_bits(Words bytes) {
  const Words bits = bytes == 0 ? Words{} + 0x00400000u : bytes << 23;
  return bytes == 255 ? Words{} + 0x7fc00000u : bits;
}

// Of each byte.
struct E8m0Bits {
  uint32_t of[256];
  constexpr E8m0Bits() : of() {
    for (uint32_t byte = 0; byte < 256; ++byte) {
      of[byte] = e8m0_bits(byte);
    }
  }
};
[[maybe_unused]] constexpr E8m0Bits kE8m0Bits;

}  // namespace
}  // namespace braid::BRAID_CPU_ISA
