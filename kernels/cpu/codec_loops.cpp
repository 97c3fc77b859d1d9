#include "kernels/cpu/codec_loops.h"

#include "kernels/cpu/code_values.h"

namespace braid::BRAID_CPU_ISA {
namespace {

template <class T>
struct Bits;
template <>
struct Bits<float> {
  using Word = uint32_t;
  static constexpr int kMantissa = 23, kBias = 127;
};
template <>
struct Bits<double> {
  using Word = uint64_t;
  static constexpr int kMantissa = 52, kBias = 1023;
};

template <class T>
T power_of_two(int exponent) {
  using Word = typename Bits<T>::Word;
  return __builtin_bit_cast(T, static_cast<Word>(exponent + Bits<T>::kBias) << Bits<T>::kMantissa);
}

template <class T>
T absolute(T x) {
  return x < 0 ? -x : x;
}

// S EEEE MMM: exponent and mantissa move into place together; below 2^-6 the codes are steps of
// 2^-9, and 0x7f is not a number.
template <class T>
T e4m3_value(uint32_t code) {
  using Word = typename Bits<T>::Word;
  constexpr int kShift = Bits<T>::kMantissa - 3;
  const uint32_t magnitude = code & 0x7f;
  const Word normal = (static_cast<Word>(magnitude) << kShift) +
                      (static_cast<Word>(Bits<T>::kBias - 7) << Bits<T>::kMantissa);
  const Word subnormal =
      __builtin_bit_cast(Word, static_cast<T>(static_cast<int32_t>(magnitude)) / 512);
  const Word not_a_number = static_cast<Word>(Bits<T>::kBias * 4 + 3) << (Bits<T>::kMantissa - 1);
  Word bits = magnitude < 8 ? subnormal : normal;
  bits = magnitude == 0x7f ? not_a_number : bits;
  return __builtin_bit_cast(T, bits | static_cast<Word>(code >> 7) << (8 * sizeof(Word) - 1));
}

// S EE M: as above; code 1 is 0.5 and code 0 is 0.
template <class T>
T e2m1_value(uint32_t code) {
  using Word = typename Bits<T>::Word;
  constexpr int kShift = Bits<T>::kMantissa - 1;
  const uint32_t magnitude = code & 7;
  const Word normal = (static_cast<Word>(magnitude) << kShift) +
                      (static_cast<Word>(Bits<T>::kBias - 1) << Bits<T>::kMantissa);
  const Word half = static_cast<Word>(Bits<T>::kBias - 1) << Bits<T>::kMantissa;
  const Word small = magnitude == 1 ? half : Word{0};
  const Word bits = magnitude < 2 ? small : normal;
  return __builtin_bit_cast(T, bits | static_cast<Word>(code >> 3) << (8 * sizeof(Word) - 1));
}

template <class T>
void store(T value, T& out) {
  out = value;
}
void store(float value, Bfloat16& out) {
  const auto bits = __builtin_bit_cast(uint32_t, value);
  out.bits = static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// |y| <= 448 -> magnitude code.
template <class T>
uint32_t e4m3_magnitude(T y) {
  using Word = typename Bits<T>::Word;
  constexpr int kShift = Bits<T>::kMantissa - 3;
  const Word bits = __builtin_bit_cast(Word, y);
  const Word rounded = bits + ((Word{1} << (kShift - 1)) - 1) + ((bits >> kShift) & 1);
  const auto normal =
      static_cast<uint32_t>(rounded >> kShift) - (static_cast<uint32_t>(Bits<T>::kBias - 7) << 3);
  // Adding 1.5 * 2^mantissa leaves the nearest integer, the even one of two.
  const T shifted = y * 512 + power_of_two<T>(Bits<T>::kMantissa) * T(1.5);
  const auto subnormal = static_cast<uint32_t>(__builtin_bit_cast(Word, shifted)) & 0xf;
  return y < T(0.015625) ? subnormal : normal;
}

template <class T>
uint32_t e2m1_magnitude(T y) {
  return (y > T(0.25)) + (y >= T(0.75)) + (y > T(1.25)) + (y >= T(1.75)) + (y > T(2.5)) +
         (y >= T(3.5)) + (y > T(5));
}

template <class T>
uint32_t sign_of(T value) {
  using Word = typename Bits<T>::Word;
  return static_cast<uint32_t>(__builtin_bit_cast(Word, value) >> (8 * sizeof(Word) - 1));
}

// The two above on a register of codes at once: what the compiler does not find by itself, and for
// widening and narrowing does not even do well.
#if defined(__AVX512F__)
constexpr int64_t kLanes = 16;
constexpr __mmask16 kAll = 0xffff;  // GCC 12 warns of the forms without a mask
#elif defined(__AVX2__)
constexpr int64_t kLanes = 8;
#else
constexpr int64_t kLanes = 4;
#endif
using Words = uint32_t __attribute__((vector_size(4 * kLanes)));
using Floats = float __attribute__((vector_size(4 * kLanes)));

template <class Block>
Block loaded(const uint8_t* bytes) {
  Block block;
  __builtin_memcpy(&block, bytes, sizeof block);
  return block;
}

#if defined(__AVX2__)

Words widened(__m128i bytes) {
#if defined(__AVX512F__)
  return __builtin_bit_cast(Words, _mm512_maskz_cvtepu8_epi32(kAll, bytes));
#else
  return __builtin_bit_cast(Words, _mm256_cvtepu8_epi32(bytes));
#endif
}

Words codes_of_bytes(const uint8_t* bytes) {
#if defined(__AVX512F__)
  return widened(loaded<__m128i>(bytes));
#else
  return widened(_mm_cvtsi64_si128(loaded<int64_t>(bytes)));
#endif
}

// Both halves of kLanes / 2 bytes, in the order of the inputs.
Words codes_of_halves(const uint8_t* bytes) {
#if defined(__AVX512F__)
  const __m128i pairs = _mm_cvtsi64_si128(loaded<int64_t>(bytes));
#else
  const __m128i pairs = _mm_cvtsi32_si128(loaded<int32_t>(bytes));
#endif
  const __m128i wide = _mm_cvtepu8_epi16(pairs);
  return widened(_mm_and_si128(_mm_or_si128(wide, _mm_slli_epi16(wide, 4)), _mm_set1_epi8(15)));
}

void store_lower_halves(Words words, Bfloat16* out) {
#if defined(__AVX512F__)
  const __m256i halves = _mm512_maskz_cvtepi32_epi16(kAll, __builtin_bit_cast(__m512i, words));
#else
  const auto both = __builtin_bit_cast(__m256i, words);
  const __m128i halves =
      _mm_packus_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
#endif
  __builtin_memcpy(out, &halves, sizeof halves);
}

#else

Words codes_of_bytes(const uint8_t* bytes) {
  return Words{bytes[0], bytes[1], bytes[2], bytes[3]};
}

Words codes_of_halves(const uint8_t* bytes) {
  const uint32_t first = bytes[0], second = bytes[1];
  return Words{first & 15, first >> 4, second & 15, second >> 4};
}

void store_lower_halves(Words words, Bfloat16* out) {
  for (int64_t i = 0; i < kLanes; ++i) {
    out[i].bits = static_cast<uint16_t>(words[i]);
  }
}

#endif

void store(Floats values, float* out) {
  __builtin_memcpy(out, &values, sizeof values);
}
void store(Floats values, Bfloat16* out) {
  const Words bits = __builtin_bit_cast(Words, values);
  store_lower_halves((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, out);
}

// Where bfloat16 holds the values.
void store_exact(Floats values, float* out) {
  store(values, out);
}
void store_exact(Floats values, Bfloat16* out) {
  store_lower_halves(__builtin_bit_cast(Words, values) >> 16, out);
}

}  // namespace

template <class T, class Out>
void decode_fp8_row(const uint8_t* codes, const T* scales, Out* out, int64_t columns) {
  for (int64_t first = 0; first < columns; first += 128) {
    const T scale = scales[first / 128];
    const int64_t end = columns - first < 128 ? columns : first + 128;
    int64_t i = first;
    if constexpr (sizeof(T) == sizeof(float)) {
      for (; i + kLanes <= end; i += kLanes) {
        store(e4m3_values<Floats>(codes_of_bytes(codes + i)) * scale, out + i);
      }
    }
    for (; i < end; ++i) {
      store(e4m3_value<T>(codes[i]) * scale, out[i]);
    }
  }
}

template <class T, class Out>
void decode_fp4_row(const uint8_t* codes, const T* scales, Out* out, int64_t columns) {
  for (int64_t group = 0; group < columns / 32; ++group, codes += 16, out += 32) {
    const T scale = scales[group];
    if constexpr (sizeof(T) == sizeof(float)) {
      // Two digits times a power of two that is not tiny need no rounding in either type.
      if (scale > T(0x1p-100)) {
        for (int64_t i = 0; i < 32; i += kLanes) {
          store_exact(e2m1_values<Floats>(codes_of_halves(codes + i / 2)) * scale, out + i);
        }
      } else {
        for (int64_t i = 0; i < 32; i += kLanes) {
          store(e2m1_values<Floats>(codes_of_halves(codes + i / 2)) * scale, out + i);
        }
      }
    } else {
      for (int64_t i = 0; i < 16; ++i) {
        store(e2m1_value<T>(codes[i] & 15) * scale, out[2 * i]);
        store(e2m1_value<T>(codes[i] >> 4) * scale, out[2 * i + 1]);
      }
    }
  }
}

template <class T>
void encode_fp8_run(const T* values, T scale, bool signed_zero, uint8_t* codes, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const T y = absolute(values[i]) / scale;
    const uint32_t magnitude = e4m3_magnitude(y < 448 ? y : T(448));
    const bool keeps_sign = magnitude != 0 || signed_zero;
    codes[i] = static_cast<uint8_t>(magnitude | (keeps_sign ? sign_of(values[i]) << 7 : 0));
  }
}

template <class T>
void encode_fp4_run(const T* values, T scale, bool signed_zero, uint8_t* codes, int64_t count) {
  const auto code = [&](T value) {
    const uint32_t magnitude = e2m1_magnitude(absolute(value) / scale);
    return magnitude | (magnitude != 0 || signed_zero ? sign_of(value) << 3 : 0);
  };
  for (int64_t i = 0; i < count / 2; ++i) {
    codes[i] = static_cast<uint8_t>(code(values[2 * i]) | code(values[2 * i + 1]) << 4);
  }
}

template <class T>
T largest_magnitude(const T* values, int64_t count) {
  T largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const T magnitude = absolute(values[i]);
    largest = largest < magnitude ? magnitude : largest;
  }
  return largest;
}

#define BRAID_INSTANTIATE(T)                                           \
  template void encode_fp8_run(const T*, T, bool, uint8_t*, int64_t);  \
  template void encode_fp4_run(const T*, T, bool, uint8_t*, int64_t);  \
  template T largest_magnitude(const T*, int64_t);                     \
  template void decode_fp8_row(const uint8_t*, const T*, T*, int64_t); \
  template void decode_fp4_row(const uint8_t*, const T*, T*, int64_t);
BRAID_INSTANTIATE(float)
BRAID_INSTANTIATE(double)
#undef BRAID_INSTANTIATE
template void decode_fp8_row(const uint8_t*, const float*, Bfloat16*, int64_t);
template void decode_fp4_row(const uint8_t*, const float*, Bfloat16*, int64_t);

}  // namespace braid::BRAID_CPU_ISA
