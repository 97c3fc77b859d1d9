#pragma once
// Vectors of the widest registers of the instruction set that a *_loops.cpp file is compiled for,
// and activations of a narrower type as the wide numbers that arithmetic is done in. Included
// after BRAID_CPU_ISA names the instruction set.
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "kernels/bfloat16.h"
#include "kernels/cpu/loops.h"

namespace braid::BRAID_CPU_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kVectorBytes)));
};
template <class T>
using Vector = typename VectorOf<T>::type;

// Lanes of a Vector<T>; the functions below are also called with T itself, for what is left over.
template <class V, class T>
constexpr int64_t kLanesOf = sizeof(V) / sizeof(T);

template <class V, class T>
V load(const T* from) {
  V v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
template <class T, class V>
void store(V v, T* to) {
  std::memcpy(to, &v, sizeof v);
}

typedef uint32_t Words __attribute__((vector_size(kVectorBytes)));
typedef uint16_t Halves __attribute__((vector_size(kVectorBytes / 2)));

// One instruction, which GCC makes four of when it converts vectors.
inline Words zero_extended(Halves halves) {
#if defined(__AVX512F__)
  return (Words)_mm512_maskz_cvtepu16_epi32(0xffff, (__m256i)halves);
#elif defined(__AVX2__)
  return (Words)_mm256_cvtepu16_epi32((__m128i)halves);
#else
  return __builtin_convertvector(halves, Words);
#endif
}

template <class V>
V load(const Bfloat16* from) {
  if constexpr (sizeof(V) == sizeof(float)) {
    const uint32_t bits = static_cast<uint32_t>(from->bits) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  } else {
    Halves halves;
    std::memcpy(&halves, from, sizeof halves);
    const Words words = zero_extended(halves) << 16;
    V v;
    std::memcpy(&v, &words, sizeof v);
    return v;
  }
}

// To the nearest bfloat16, ties to even; NaN stays one. The instruction, where there is one, makes
// zero of numbers below 2^-126.
inline Halves rounded(Vector<float> v) {
#if defined(__AVX512BF16__)
  return (Halves)_mm512_cvtneps_pbh((__m512)v);
#else
  Words bits;
  std::memcpy(&bits, &v, sizeof bits);
  const Words nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16, quiet = Words{} + 0x7fc0;
  return __builtin_convertvector(v == v ? nearest : quiet, Halves);
#endif
}

template <class V>
void store(V v, Bfloat16* to) {
  if constexpr (sizeof(V) == sizeof(float)) {
#if defined(__AVX512BF16__)
    const auto halves = _mm_cvtneps_pbh(_mm_set_ss(static_cast<float>(v)));
    std::memcpy(to, &halves, sizeof *to);
#else
    uint32_t bits;
    std::memcpy(&bits, &v, sizeof bits);
    const uint32_t nearest = v == v ? (bits + 0x7fff + ((bits >> 16) & 1)) >> 16 : 0x7fc0;
    to->bits = static_cast<uint16_t>(nearest);
#endif
  } else {
    const Halves halves = rounded(v);
    std::memcpy(to, &halves, sizeof halves);
  }
}

/// seen[lane] != 0 ? x : otherwise.
template <class V>
V where_seen(const uint8_t* seen, V x, V otherwise) {
  if constexpr (std::is_arithmetic_v<V>) {
    return *seen != 0 ? x : otherwise;
  } else {
    const auto never = x != x;  // integers as wide as a lane
    constexpr int kLanes = sizeof(V) / sizeof(never[0]);
    typedef uint8_t Bytes __attribute__((vector_size(kLanes)));
    Bytes bytes;
    std::memcpy(&bytes, seen, sizeof bytes);
    return __builtin_convertvector(bytes, std::remove_const_t<decltype(never)>) != 0 ? x
                                                                                     : otherwise;
  }
}

/// exponential() of loops.h.
[[maybe_unused]] inline Vector<float> exponential(Vector<float> x) {
  return exponential_of<Vector<float>, Words>(x);
}
[[maybe_unused]] inline Vector<double> exponential(Vector<double> x) {
  for (int lane = 0; lane < kVectorBytes / 8; ++lane) {
    x[lane] = exponential(x[lane]);
  }
  return x;
}

/// Folds halves of a vector onto each other until one lane is left.
template <class T, class V, class F, int... kLane>
T folded(V v, const F& f, std::integer_sequence<int, kLane...>) {
  if constexpr (sizeof...(kLane) == 0) {
    return v[0];
  } else {
    constexpr int kHalf = sizeof...(kLane);
    const auto low = __builtin_shufflevector(v, v, kLane...),
               high = __builtin_shufflevector(v, v, (kHalf + kLane)...);
    return folded<T>(f(low, high), f, std::make_integer_sequence<int, kHalf / 2>{});
  }
}
template <class T, class F>
T folded(Vector<T> v, const F& f) {
  constexpr int kLanes = kLanesOf<Vector<T>, T>;
  return folded<T>(v, f, std::make_integer_sequence<int, kLanes / 2>{});
}

template <class T>
T largest_of(Vector<T> v) {
  return folded<T>(v, [](auto x, auto y) { return x > y ? x : y; });
}

template <class T>
T sum_of(Vector<T> v) {
  return folded<T>(v, [](auto x, auto y) { return x + y; });
}
template <class T>
T sum_of(T v) {
  return v;
}

/// sum_i a[i] b[i] in T, of elements that are T or narrower: four sums at a time, or each addition
/// would wait for the last.
template <class T, class A, class B>
T dot(const A* a, const B* b, int64_t size) {
  constexpr int64_t kSums = 4, kLanes = kLanesOf<Vector<T>, T>;
  const auto product = [&](int64_t i) { return load<Vector<T>>(a + i) * load<Vector<T>>(b + i); };
  Vector<T> sums[kSums] = {};
  int64_t i = 0;
  for (; i + kSums * kLanes <= size; i += kSums * kLanes) {
    for (int s = 0; s < kSums; ++s) {
      sums[s] += product(i + s * kLanes);
    }
  }
  auto lanes = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  for (; i + kLanes <= size; i += kLanes) {
    lanes += product(i);
  }
  T sum = sum_of<T>(lanes);
  for (; i < size; ++i) {
    sum += load<T>(a + i) * load<T>(b + i);
  }
  return sum;
}

/// Asks for memory that is read soon; it need not exist.
template <class T>
void ask_for(const T* from, int64_t count) {
  constexpr int64_t kLine = 64;
  const auto* bytes = reinterpret_cast<const char*>(from);
  for (int64_t i = 0; i < count * static_cast<int64_t>(sizeof(T)); i += kLine) {
    __builtin_prefetch(bytes + i);
  }
}

/// Calls f(V{}, i) for i = 0, lanes, 2 lanes, ... and f(T{}, i) for the single elements left over.
template <class T, class F>
void for_lanes(int64_t size, const F& f) {
  constexpr int64_t kLanes = kLanesOf<Vector<T>, T>;
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    f(Vector<T>{}, i);
  }
  for (; i < size; ++i) {
    f(T{}, i);
  }
}

/// Inside for_lanes(): adds to the sums of lanes, or to that of the elements left over.
template <class T>
void add_lanes(const Vector<T>& value, Vector<T>& lanes, T&) {
  lanes += value;
}
template <class T>
void add_lanes(const T& value, Vector<T>&, T& rest) {
  rest += value;
}

}  // namespace
}  // namespace braid::BRAID_CPU_ISA
