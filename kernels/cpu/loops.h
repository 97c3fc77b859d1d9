#pragma once
// Loops shared by the *_loops.cpp files; included after BRAID_CPU_ISA names the instruction set.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace braid::BRAID_CPU_ISA {
namespace {

/// A number that loops are written for, or (0) any: then the given one.
template <int kKnown>
[[maybe_unused]] constexpr int64_t known_or(int64_t given) {
  return kKnown > 0 ? kKnown : given;
}

/// f(0), f(1), ... as constants. A compiler keeps an array in registers only where no index
/// varies.
template <class F, int... kIndex>
[[gnu::always_inline]] inline void for_indices(std::integer_sequence<int, kIndex...>, const F& f) {
  (f(std::integral_constant<int, kIndex>{}), ...);
}

/// f(row, column) of a tile of sums, as constants.
template <int kRows, int kAcross, class F>
[[gnu::always_inline]] inline void for_each_sum(const F& f) {
  for_indices(
      std::make_integer_sequence<int, kRows * kAcross>{},
      [&](auto i) __attribute__((always_inline)) {
        f(std::integral_constant<int, i / kAcross>{}, std::integral_constant<int, i % kAcross>{});
      });
}

[[maybe_unused]] double exponential(double x) {
  return std::exp(x);
}

/// e^x = 2^n e^r with |r| <= ln2 / 2, of a float or of a vector: the compiler can vectorize it,
/// which it cannot do with std::exp. Relative error below 2e-7 within [-87, 88]; beyond, the value
/// at the bound.
template <class Float, class Bits>
[[maybe_unused]] inline Float exponential_of(Float x) {
  const Float zero = {}, low = zero - 87.0f, high = zero + 88.0f;
  x = x < low ? low : x;
  x = x > high ? high : x;
  constexpr float kRounding = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer
  const Float shifted = x * 1.44269504f + kRounding;
  const Float n = shifted - kRounding;
  const Float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Float p = zero + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  Bits bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits - 0x4B400000 + 127) << 23;
  Float power;
  std::memcpy(&power, &bits, sizeof power);
  return p * power;
}
[[maybe_unused]] inline float exponential(float x) {
  return exponential_of<float, uint32_t>(x);
}

[[maybe_unused]] double logarithm(double x) {
  return std::log(x);
}

/// log x of a normal x > 0, which the compiler can vectorize: x = 2^n m, log m as a polynomial.
/// Error below 1e-7, absolute or relative, whichever is larger.
[[maybe_unused]] float logarithm(float x) {
  int32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  // m in [sqrt(1/2), sqrt(2)): taking off the bits of sqrt(1/2) leaves n in the exponent.
  const int32_t n = (bits - 0x3F3504F3) >> 23;
  bits -= static_cast<int32_t>(static_cast<uint32_t>(n) << 23);
  float m;
  std::memcpy(&m, &bits, sizeof m);
  const float f = m - 1, square = f * f, exponent = static_cast<float>(n);
  float p = 7.0376836292e-2f;
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  p = p * f * square - exponent * 2.12194440e-4f - 0.5f * square;
  return f + p + exponent * 0.693359375f;
}

}  // namespace
}  // namespace braid::BRAID_CPU_ISA
