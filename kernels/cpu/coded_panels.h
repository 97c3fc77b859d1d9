#pragma once
// Codes decoded straight into the panels of gemm_tile.h, which is included first.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/code_values.h"

namespace braid::BRAID_CPU_ISA {
namespace {

// The format of a coded operand's codes.
struct Fp4 {
  static constexpr int64_t kInWord = 8, kBits = 4;
  static Floats values(const Units& codes) { return e2m1_values<Floats>(codes); }
};
struct Fp8 {
  static constexpr int64_t kInWord = 4, kBits = 8;
  static Floats values(const Units& codes) { return e4m3_values<Floats>(codes & 0xff); }
};

template <class Code>
constexpr int64_t bytes_of(int64_t codes) {
  return codes * Code::kBits / 8;
}

inline float scale_at(const CodedOperand& b, int64_t row, int64_t group) {
  const int64_t at = row / b.scale_rows * b.scales_stride + group;
  float scale;
  std::memcpy(&scale,
              b.float_scales ? static_cast<const void*>(b.scales + at * sizeof scale)
                             : &kE8m0Bits.of[b.scales[at]],
              sizeof scale);
  return scale;
}

inline Units nearest_bf16(const Units& x) {  // in the upper half; NaN of codes stays one
  return (x + 0x7FFF + ((x >> 16) & 1)) & 0xFFFF0000;
}

// One row of a panel's vector, or a pair of rows as units of two. bfloat16 holds values of FP4
// exactly: two digits times a power of two.
template <class Code>
Units unit_of(const Floats& value, bool rounded) {
  return Code::kBits == 8 && rounded ? nearest_bf16((Units)value) : (Units)value;
}
template <class Code>
Units pair_of(const Floats& first, const Floats& second) {
  return (unit_of<Code>(first, true) >> 16) | (unit_of<Code>(second, true) & 0xFFFF0000);
}

// Words of four bytes of each of `lines` rows, turned: words[i][line]. Zero beyond the rows. What
// follows in each row is asked for.
inline void turn_words(
    const uint8_t* first, int64_t stride, int64_t bytes, int64_t lines, uint32_t* words) {
  constexpr int64_t kAhead = 128;
  const int64_t count = (bytes + 3) / 4;
  if (lines < kWidth) {
    std::memset(words, 0, count * kWidth * sizeof *words);
  }
  pack_turned(
      [&](int64_t line, int64_t word) {
        const uint8_t* from = first + line * stride + 4 * word;
        __builtin_prefetch(from + kAhead);
        if (bytes - 4 * word >= 32) {
          return loaded<Units8>(from);
        }
        Units8 rest{};
        std::memcpy(&rest, from, bytes - 4 * word);
        return rest;
      },
      words,
      kWidth,
      lines,
      count);
}

inline void turn_scales(
    const CodedOperand& b, int64_t column, int64_t columns, int64_t groups, float* to) {
  const int64_t row = b.first_row + column;
  if (b.scale_rows > 1 || b.float_scales) {
    for (int64_t group = 0; group < groups; ++group) {
      for (int64_t i = 0; i < kWidth; ++i) {
        to[group * kWidth + i] = i < columns ? scale_at(b, row + i, group) : 0;
      }
    }
    return;
  }
  constexpr int64_t kAtOnce = 32;  // groups: bytes of each row
  uint32_t words[kAtOnce / 4 * kWidth];
  for (int64_t first = 0; first < groups; first += kAtOnce) {
    const int64_t count = groups - first < kAtOnce ? groups - first : kAtOnce;
    turn_words(b.scales + row * b.scales_stride + first, b.scales_stride, count, columns, words);
    for (int64_t group = 0; group < count; ++group, to += kWidth) {
      for (int64_t v = 0; v < kWidth; v += kLanes) {
        const auto word = loaded<Units>(words + group / 4 * kWidth + v);
        stored(e8m0_bits((word >> (group % 4 * 8)) & 0xff), to + v);
      }
    }
  }
}

// Panels of W^T: a column is a row of W, along which its codes lie. Words of codes are turned, so
// that a vector has one word of each of its columns, and then decoded code by code.
template <class Code, int64_t kPair>
void pack_turned_codes(const CodedOperand& b,
                       const float* scales,
                       int64_t k,
                       int64_t column,
                       int64_t depth,
                       int64_t columns,
                       uint32_t* to) {
  alignas(64) uint32_t words[kCodedUnits * kPair / Code::kInWord * kWidth];
  const int64_t stride = bytes_of<Code>(b.row_codes);
  turn_words(b.values + (b.first_row + column) * stride + bytes_of<Code>(k),
             stride,
             bytes_of<Code>(depth),
             columns,
             words);
  for (int64_t first = 0; first < depth; first += Code::kInWord) {
    uint32_t* out = to + first / kPair * kWidth;
    const float* scale_row = scales + (k + first) / b.scale_columns * kWidth;
    for (int64_t v = 0; v < kWidth; v += kLanes) {
      const auto codes = loaded<Units>(words + first / Code::kInWord * kWidth + v);
      const auto scale = loaded<Floats>(scale_row + v);
      const auto value = [&](int64_t i) {
        return Code::values(codes >> (i * Code::kBits)) * scale;
      };
      for (int64_t i = 0; i < Code::kInWord; i += kPair) {
        stored(
            kPair == 1 ? unit_of<Code>(value(i), b.rounded) : pair_of<Code>(value(i), value(i + 1)),
            out + i / kPair * kWidth + v);
      }
    }
  }
}

[[maybe_unused]] constexpr uint32_t kHighHalf[16] = {
    0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};

// Codes that lie one after another, a lane each; above them is anything.
inline Units neighbors(const uint8_t* from, Fp4) {
  constexpr uint32_t kShifts[] = {0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28};
  constexpr int64_t kSize = kLanes / 2;
  uint32_t word = 0;
  std::memcpy(&word, from, kSize < 4 ? kSize : 4);
  auto words = Units{} + word;
  if constexpr (kSize > 4) {
    std::memcpy(&word, from + kSize - 4, 4);
    const auto high = loaded<Units>(kHighHalf);
    words = high != 0 ? Units{} + word : words;
  }
  return words >> loaded<Units>(kShifts);
}
inline Units neighbors(const uint8_t* from, Fp8) {
  using Bytes [[gnu::vector_size(kLanes)]] = uint8_t;
  return __builtin_convertvector(loaded<Bytes>(from), Units);
}

// Panels of W: rows as they lie.
template <class Code, int64_t kPair>
void pack_codes_as_they_lie(const CodedOperand& b,
                            const float*,
                            int64_t k,
                            int64_t column,
                            int64_t depth,
                            int64_t columns,
                            uint32_t* to) {
  constexpr int64_t kRowsAhead = 32;
  const int64_t stride = bytes_of<Code>(b.row_codes), bytes = bytes_of<Code>(columns);
  const uint8_t* from = b.values + (b.first_row + k) * stride + bytes_of<Code>(column);
  const int64_t first_group = column / b.scale_columns;
  const int64_t groups = (column + columns - 1) / b.scale_columns - first_group + 1;
  int64_t group_of[kVectors];
  for (int64_t v = 0; v < kVectors; ++v) {
    group_of[v] = std::min((column + v * kLanes) / b.scale_columns - first_group, groups - 1);
  }
  for (int64_t row = 0; row < depth; row += kPair, to += kWidth) {
    uint8_t rest[kPair][kWidth] = {};
    const uint8_t* lines[kPair];
    float scales[kPair][kWidth / 8 + 1] = {};  // a group has at least 32 columns
    for (int64_t p = 0; p < kPair; ++p) {
      lines[p] = rest[p];
      if (row + p < depth) {
        const uint8_t* line = from + (row + p) * stride;
        if (columns < kWidth) {
          std::memcpy(rest[p], line, bytes);
        } else {
          lines[p] = line;
          __builtin_prefetch(line + kRowsAhead * stride);
        }
        for (int64_t group = 0; group < groups; ++group) {
          scales[p][group] = scale_at(b, b.first_row + k + row + p, first_group + group);
        }
      }
    }
    for (int64_t v = 0; v < kVectors; ++v) {
      const auto value = [&](int64_t p) {
        return Code::values(neighbors(lines[p] + bytes_of<Code>(v * kLanes), Code{})) *
               (Floats{} + scales[p][group_of[v]]);
      };
      stored(kPair == 1 ? unit_of<Code>(value(0), b.rounded)
                        : pair_of<Code>(value(0), value(kPair - 1)),
             to + v * kLanes);
    }
  }
}

#if defined(__AVX512BW__)
// Whole panels of FP4 as they lie, in pairs, exactly as above: 32 codes are looked up at once as
// bfloat16, and a scale is added to the exponents of what is not zero. Rows whose scales would lead
// out of the normal numbers take the other way.
inline void pack_fp4_pairs_as_they_lie(
    const CodedOperand& b, int64_t k, int64_t column, int64_t depth, uint32_t* to) {
  constexpr int64_t kRowsAhead = 32, kGroup = 32;
  constexpr auto kValues = std::to_array<uint16_t>(  // of the low five bits, of which four count
      {0,      0x3f00, 0x3f80, 0x3fc0, 0x4000, 0x4040, 0x4080, 0x40c0, 0x8000, 0xbf00, 0xbf80,
       0xbfc0, 0xc000, 0xc040, 0xc080, 0xc0c0, 0,      0x3f00, 0x3f80, 0x3fc0, 0x4000, 0x4040,
       0x4080, 0x40c0, 0x8000, 0xbf00, 0xbf80, 0xbfc0, 0xc000, 0xc040, 0xc080, 0xc0c0});
  const __m512i values = _mm512_loadu_si512(kValues.data());
  // A byte of each row in each half of a lane, for two lanes.
  const __m512i order = _mm512_set_epi32(0x000f0007,
                                         0x000f0007,
                                         0x000e0006,
                                         0x000e0006,
                                         0x000d0005,
                                         0x000d0005,
                                         0x000c0004,
                                         0x000c0004,
                                         0x000b0003,
                                         0x000b0003,
                                         0x000a0002,
                                         0x000a0002,
                                         0x00090001,
                                         0x00090001,
                                         0x00080000,
                                         0x00080000);
  const __m512i shifts = _mm512_set1_epi64(0x0004000400000000);
  const __m512i not_sign = _mm512_set1_epi16(0x7fff);
  const int64_t stride = bytes_of<Fp4>(b.row_codes);
  const uint8_t* line = b.values + (b.first_row + k) * stride + bytes_of<Fp4>(column);
  const uint8_t* scale = b.scales + (b.first_row + k) * b.scales_stride + column / kGroup;
  for (int64_t row = 0; row < depth;
       row += 2, line += 2 * stride, scale += 2 * b.scales_stride, to += kWidth) {
    uint16_t of_rows[2];
    std::memcpy(&of_rows[0], scale, 2);
    std::memcpy(&of_rows[1], scale + b.scales_stride, 2);
    // Two groups of the first row, two of the second; values are 0.5 to 6.
    const __m128i scales = _mm_cvtsi32_si128(static_cast<int>(of_rows[0] | of_rows[1] << 16));
    const __m128i normal =
        _mm_min_epu8(_mm_max_epu8(scales, _mm_set1_epi8(2)), _mm_set1_epi8(static_cast<char>(252)));
    if (_mm_cvtsi128_si32(normal) != _mm_cvtsi128_si32(scales)) {
      pack_codes_as_they_lie<Fp4, 2>(b, nullptr, k + row, column, 2, kWidth, to);
      continue;
    }
    const __m512i steps = _mm512_zextsi128_si512(
        _mm_sub_epi16(_mm_slli_epi16(_mm_cvtepu8_epi16(scales), 7), _mm_set1_epi16(127 << 7)));
    const __m512i of_group[2] = {_mm512_permutexvar_epi16(_mm512_set1_epi32(0x00020000), steps),
                                 _mm512_permutexvar_epi16(_mm512_set1_epi32(0x00030001), steps)};
    __builtin_prefetch(line + kRowsAhead * stride);
    __builtin_prefetch(line + (kRowsAhead + 1) * stride);
    for (int64_t v = 0; v < kVectors; ++v) {
      const __m128i both =
          _mm_unpacklo_epi64(_mm_loadu_si64(line + 8 * v), _mm_loadu_si64(line + stride + 8 * v));
      const __m512i codes = _mm512_srlv_epi16(
          _mm512_shuffle_epi8(_mm512_maskz_broadcast_i32x4(0xffff, both), order), shifts);
      const __m512i value = _mm512_permutexvar_epi16(codes, values);
      _mm512_storeu_si512(
          to + v * kLanes,
          _mm512_mask_add_epi16(
              value, _mm512_test_epi16_mask(value, not_sign), value, of_group[v / 2]));
    }
  }
}
#endif

template <int64_t kPair>
void pack_codes(const CodedOperand& b,
                const float* scales,
                int64_t k,
                int64_t column,
                int64_t depth,
                int64_t columns,
                uint32_t* to) {
#if defined(__AVX512BW__)
  if (kPair == 2 && !b.fp8 && !b.turned && !b.float_scales && columns == kWidth && depth % 2 == 0 &&
      column % b.scale_columns == 0) {
    pack_fp4_pairs_as_they_lie(b, k, column, depth, to);
    return;
  }
#endif
  const auto pack =
      b.fp8 ? (b.turned ? pack_turned_codes<Fp8, kPair> : pack_codes_as_they_lie<Fp8, kPair>)
            : (b.turned ? pack_turned_codes<Fp4, kPair> : pack_codes_as_they_lie<Fp4, kPair>);
  pack(b, scales, k, column, depth, columns, to);
}

}  // namespace
}  // namespace braid::BRAID_CPU_ISA
