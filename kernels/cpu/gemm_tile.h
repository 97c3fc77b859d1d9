#pragma once
// Packing and the register tile of matrix products, for the *_loops.cpp files that name the
// instruction set (BRAID_CPU_ISA), the bytes of a vector and how two units are multiplied:
//
//   Format::kPair              elements of a unit
//   Format::multiply_add(sum, a, b)
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "kernels/cpu/gemm_loops.h"
#include "kernels/cpu/loops.h"

namespace braid::BRAID_CPU_ISA {
namespace {

constexpr int64_t kBytes = BRAID_VECTOR_BYTES, kLanes = kBytes / 4;
constexpr int64_t kVectors = kBytes == 64 ? 4 : 2;  // of a panel's row
constexpr int64_t kWidth = kVectors * kLanes;
// x kVectors sums: as many as registers hold beside the operands
constexpr int64_t kTileRows = 6;

using Floats [[gnu::vector_size(kBytes)]] = float;
using Units [[gnu::vector_size(kBytes)]] = uint32_t;
using Units8 [[gnu::vector_size(32)]] = uint32_t;
using Halves8 [[gnu::vector_size(16)]] = uint16_t;
using Wide4 [[gnu::vector_size(32)]] = uint64_t;
using Units4 [[gnu::vector_size(16)]] = uint32_t;

template <class V>
V loaded(const void* from) {
  V vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

template <class V>
void stored(const V& vector, void* to) {
  std::memcpy(to, &vector, sizeof vector);
}

// The nearest bfloat16, ties to even, in the upper half.
inline Units8 rounded_to_bf16(Units8 x) {
  const Units8 nearest = (x + 0x7FFF + ((x >> 16) & 1)) & 0xFFFF0000;
  return (x & 0x7FFFFFFF) > 0x7F800000 ? Units8{} + 0x7FC00000 : nearest;
}

// Eight neighbors as float32 bits.
inline Units8 widened(const uint16_t* from, bool) {
  return __builtin_convertvector(loaded<Halves8>(from), Units8) << 16;
}
inline Units8 widened(const uint32_t* from, bool rounded) {
  const auto x = loaded<Units8>(from);
  return rounded ? rounded_to_bf16(x) : x;
}

// Eight pairs of neighbors.
inline Units8 paired(const uint16_t* from) {
  return loaded<Units8>(from);
}
inline Units8 paired(const uint32_t* from) {
#if defined(__AVX512BF16__)
  return (Units8)_mm512_cvtneps_pbh(_mm512_loadu_ps(from));
#else
  const auto half = [](const uint32_t* four_pairs) {
    const auto x = loaded<Wide4>(four_pairs);
    Units8 narrow;
    std::memcpy(&narrow, &x, sizeof x);
    narrow = rounded_to_bf16(narrow);
    Wide4 both;
    std::memcpy(&both, &narrow, sizeof both);
    return __builtin_convertvector(((both >> 16) & 0xFFFF) | ((both >> 32) & 0xFFFF0000), Units4);
  };
  return __builtin_shufflevector(half(from), half(from + 8), 0, 1, 2, 3, 4, 5, 6, 7);
#endif
}

// Eight pairs, each of one element of two lines.
inline Units8 paired(const Halves8& first, const Halves8& second) {
  return (Units8)__builtin_shufflevector(
      first, second, 0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
}
inline Units8 paired(const uint16_t* first, const uint16_t* second) {
  return paired(loaded<Halves8>(first), loaded<Halves8>(second));
}
inline Units8 paired(const uint32_t* first, const uint32_t* second) {
#if defined(__AVX512BF16__)
  return paired((Halves8)_mm256_cvtneps_pbh(loaded<__m256>(first)),
                (Halves8)_mm256_cvtneps_pbh(loaded<__m256>(second)));
#else
  return (widened(first, /*rounded=*/true) >> 16) | widened(second, /*rounded=*/true);
#endif
}

// The units of a panel's row that reaches over two whole lines.
template <class S>
void pair_lines(const S* first, const S* second, uint32_t* to) {
  for (int64_t i = 0; i < kWidth; i += 8) {
    stored(paired(first + i, second + i), to + i);
  }
}
#if defined(__AVX512F__)
// Sixteen units, each of one element of two lines of bfloat16.
inline Units paired_sixteen(const uint16_t* first, const uint16_t* second) {
  const auto words = [](const uint16_t* from) {
    return (Units)_mm512_maskz_cvtepu16_epi32(0xffff, loaded<__m256i>(from));
  };
  return words(first) | words(second) << 16;
}

// Of bfloat16, which are the more often packed: sixteen at a time.
inline void pair_lines(const uint16_t* first, const uint16_t* second, uint32_t* to) {
  for (int64_t i = 0; i < kWidth; i += 16) {
    stored(paired_sixteen(first + i, second + i), to + i);
  }
}
#endif

// The matrix that is packed, by lines without gaps.
template <class S>
struct Lines {
  const S* data;
  int64_t stride;
  bool rounded;

  const S* at(int64_t line, int64_t i) const { return data + line * stride + i; }

  // Units [unit, unit + 8) along line `line`, of `depth` elements; zero beyond.
  template <int64_t kPair>
  Units8 along(int64_t line, int64_t unit, int64_t depth) const {
    const int64_t first = unit * kPair, count = depth - first;
    if (count >= 8 * kPair) {
      return along<kPair>(at(line, first));
    }
    S rest[8 * kPair] = {};
    std::memcpy(rest, at(line, first), count * sizeof(S));
    return along<kPair>(rest);
  }

  // The units of eight neighbors at `i`, a unit reaching over kPair lines; `count` of them exist.
  template <int64_t kPair>
  Units8 across(int64_t unit, int64_t i, int64_t depth, int64_t count) const {
    const auto line = [&](int64_t k, S(&rest)[8]) -> const S* {
      if (k < depth && count >= 8) {
        return at(k, i);
      }
      std::memset(rest, 0, sizeof rest);
      if (k < depth) {
        std::memcpy(rest, at(k, i), count * sizeof(S));
      }
      return rest;
    };
    S rest[2][8];
    if constexpr (kPair == 1) {
      return widened(line(unit, rest[0]), rounded);
    } else {
      return paired(line(2 * unit, rest[0]), line(2 * unit + 1, rest[1]));
    }
  }

 private:
  template <int64_t kPair>
  Units8 along(const S* from) const {
    if constexpr (kPair == 1) {
      return widened(from, rounded);
    } else {
      return paired(from);
    }
  }
};

inline void store_first(const Units8& vector, uint32_t* to, int64_t count) {
  if (count >= 8) {
    stored(vector, to);
  } else {
    std::memcpy(to, &vector, count * sizeof(uint32_t));
  }
}

inline void transpose_8x8(Units8 (&r)[8]) {
  Units8 t[8], s[8];
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = __builtin_shufflevector(r[2 * i], r[2 * i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    t[2 * i + 1] = __builtin_shufflevector(r[2 * i], r[2 * i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int half = 0; half < 2; ++half) {
    const int i = 4 * half;
    s[i] = __builtin_shufflevector(t[i], t[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
    s[i + 1] = __builtin_shufflevector(t[i], t[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    s[i + 2] = __builtin_shufflevector(t[i + 1], t[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
    s[i + 3] = __builtin_shufflevector(t[i + 1], t[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = __builtin_shufflevector(s[i], s[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    r[i + 4] = __builtin_shufflevector(s[i], s[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

#if defined(__AVX512F__)
// Turns the 4 x 4 units that each quarter of four registers holds, then the quarters.
inline void transpose_16x16(Units (&r)[16]) {
  const auto low = [](const Units& a, const Units& b) {
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  };
  const auto high = [](const Units& a, const Units& b) {
    return __builtin_shufflevector(
        a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  };
  const auto low_pairs = [](const Units& a, const Units& b) {
    return __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
  };
  const auto high_pairs = [](const Units& a, const Units& b) {
    return __builtin_shufflevector(
        a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
  };
  const auto even_quarters = [](const Units& a, const Units& b) {
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
  };
  const auto odd_quarters = [](const Units& a, const Units& b) {
    return __builtin_shufflevector(
        a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  };
  Units t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = low(r[i], r[i + 1]);
    t[i + 1] = high(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = low_pairs(t[i], t[i + 2]);
    r[i + 1] = high_pairs(t[i], t[i + 2]);
    r[i + 2] = low_pairs(t[i + 1], t[i + 3]);
    r[i + 3] = high_pairs(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    for (int half = 0; half < 16; half += 8) {
      t[half + i] = even_quarters(r[half + i], r[half + 4 + i]);
      t[half + 4 + i] = odd_quarters(r[half + i], r[half + 4 + i]);
    }
  }
  for (int i = 0; i < 8; ++i) {
    r[i] = even_quarters(t[i], t[8 + i]);
    r[8 + i] = odd_quarters(t[i], t[8 + i]);
  }
}

// Rows of A out of columns of bfloat16, in whole blocks of 16 x 16 units.
inline void pack_turned_blocks(
    const uint16_t* lines, int64_t stride, uint32_t* to, int64_t lda, int64_t units, int64_t rows) {
  for (int64_t unit = 0; unit < units; unit += 16) {
    for (int64_t row = 0; row < rows; row += 16) {
      Units block[16];
      for (int64_t i = 0; i < 16; ++i) {
        const uint16_t* first = lines + 2 * (unit + i) * stride + row;
        block[i] = paired_sixteen(first, first + stride);
      }
      transpose_16x16(block);
      for (int64_t i = 0; i < 16; ++i) {
        stored(block[i], to + (row + i) * lda + unit);
      }
    }
  }
}
#endif

// to[row][i] = load(row, i .. i + 8): rows as they lie.
template <class Load>
void pack_as_is(const Load& load, uint32_t* to, int64_t to_stride, int64_t rows, int64_t columns) {
  for (int64_t row = 0; row < rows; ++row, to += to_stride) {
    for (int64_t i = 0; i < columns; i += 8) {
      store_first(load(row, i), to + i, columns - i);
    }
  }
}

// to[i][row] = load(row, i .. i + 8): turned.
template <class Load>
void pack_turned(const Load& load, uint32_t* to, int64_t to_stride, int64_t rows, int64_t columns) {
  for (int64_t row = 0; row < rows; row += 8) {
    for (int64_t i = 0; i < columns; i += 8) {
      Units8 block[8];
      for (int64_t r = 0; r < 8; ++r) {
        block[r] = row + r < rows ? load(row + r, i) : Units8{};
      }
      transpose_8x8(block);
      for (int64_t c = 0; c < 8 && i + c < columns; ++c) {
        store_first(block[c], to + (i + c) * to_stride + row, rows - row);
      }
    }
  }
}

template <class F>
void with_lines(const GemmOperand& from, const F& f) {
  if (from.bf16) {
    f(Lines<uint16_t>{static_cast<const uint16_t*>(from.data), from.stride, from.rounded});
  } else {
    f(Lines<uint32_t>{static_cast<const uint32_t*>(from.data), from.stride, from.rounded});
  }
}

template <int64_t kPair>
void pack_a(const GemmOperand& a,
            int64_t row,
            int64_t k,
            int64_t rows,
            int64_t depth,
            uint32_t* to,
            int64_t lda) {
  const int64_t units = (depth + kPair - 1) / kPair;
  with_lines(a, [&](auto lines) {
    if (a.by_columns) {
      lines.data = lines.at(k, row);
#if defined(__AVX512F__)
      if constexpr (kPair == 2 && sizeof *lines.data == 2) {
        if (depth % 32 == 0 && rows % 16 == 0) {
          return pack_turned_blocks(lines.data, lines.stride, to, lda, units, rows);
        }
      }
#endif
      pack_turned([&](int64_t unit,
                      int64_t i) { return lines.template across<kPair>(unit, i, depth, rows - i); },
                  to,
                  lda,
                  units,
                  rows);
    } else {
      lines.data = lines.at(row, k);
      pack_as_is(
          [&](int64_t r, int64_t unit) { return lines.template along<kPair>(r, unit, depth); },
          to,
          lda,
          rows,
          units);
    }
  });
}

template <int64_t kPair>
void pack_b(
    const GemmOperand& b, int64_t k, int64_t column, int64_t depth, int64_t columns, uint32_t* to) {
  const int64_t units = (depth + kPair - 1) / kPair;
  if (columns < kWidth) {
    std::memset(to, 0, units * kWidth * sizeof(uint32_t));
  }
  with_lines(b, [&](auto lines) {
    if (b.by_columns) {
      lines.data = lines.at(column, k);
      pack_turned([&](int64_t line,
                      int64_t unit) { return lines.template along<kPair>(line, unit, depth); },
                  to,
                  kWidth,
                  columns,
                  units);
    } else {
      lines.data = lines.at(k, column);
      // Whole rows of a panel need no look at each unit.
      if (kPair == 2 && columns == kWidth && depth % 2 == 0) {
        for (int64_t unit = 0; unit < units; ++unit) {
          pair_lines(lines.at(2 * unit, 0), lines.at(2 * unit + 1, 0), to + unit * kWidth);
        }
        return;
      }
      if (kPair == 1 && columns == kWidth && sizeof *lines.data == 4 && !lines.rounded) {
        for (int64_t line = 0; line < depth; ++line) {
          std::memcpy(to + line * kWidth, lines.at(line, 0), kWidth * sizeof(uint32_t));
        }
        return;
      }
      pack_as_is(
          [&](int64_t unit, int64_t i) {
            return lines.template across<kPair>(unit, i, depth, columns - i);
          },
          to,
          kWidth,
          units,
          columns);
    }
  });
}

template <class Format, int kRows, int kAcross>
void tile(const uint32_t* a,
          int64_t lda,
          const uint32_t* panel,
          float* c,
          int64_t ldc,
          int64_t columns,
          int64_t units,
          bool accumulate) {
  Floats sum[kRows][kAcross];
  for_each_sum<kRows, kAcross>([&](auto row, auto v)
                                   __attribute__((always_inline)) { sum[row][v] = Floats{}; });
  for (int64_t unit = 0; unit < units; ++unit, panel += kWidth) {
    Floats b[kAcross], same{};
    for_each_sum<1, kAcross>([&](auto, auto v) __attribute__((always_inline)) {
      b[v] = loaded<Floats>(panel + v * kLanes);
    });
    for_each_sum<kRows, kAcross>([&](auto row, auto v) __attribute__((always_inline)) {
      if constexpr (v == 0) {
        uint32_t value;
        std::memcpy(&value, a + row * lda + unit, sizeof value);
        same = (Floats)(Units{} + value);
      }
      sum[row][v] = Format::multiply_add(sum[row][v], same, b[v]);
    });
  }
  if (columns == kAcross * kLanes) {
    for_each_sum<kRows, kAcross>([&](auto row, auto v) __attribute__((always_inline)) {
      float* out = c + row * ldc + v * kLanes;
      stored(accumulate ? loaded<Floats>(out) + sum[row][v] : sum[row][v], out);
    });
    return;
  }
  float sums[kRows][kAcross * kLanes];
  for_each_sum<kRows, kAcross>([&](auto row, auto v) __attribute__((always_inline)) {
    stored(sum[row][v], sums[row] + v * kLanes);
  });
  for (int row = 0; row < kRows; ++row, c += ldc) {
    for (int64_t i = 0; i < columns; ++i) {
      c[i] = accumulate ? c[i] + sums[row][i] : sums[row][i];
    }
  }
}

template <class Format, int kAcross>
void tiles(const uint32_t* a,
           int64_t lda,
           const uint32_t* panel,
           float* c,
           int64_t ldc,
           int64_t rows,
           int64_t columns,
           int64_t units,
           bool accumulate) {
  for (; rows >= kTileRows; rows -= kTileRows, a += kTileRows * lda, c += kTileRows * ldc) {
    tile<Format, kTileRows, kAcross>(a, lda, panel, c, ldc, columns, units, accumulate);
  }
  switch (rows) {
    case 5:
      return tile<Format, 5, kAcross>(a, lda, panel, c, ldc, columns, units, accumulate);
    case 4:
      return tile<Format, 4, kAcross>(a, lda, panel, c, ldc, columns, units, accumulate);
    case 3:
      return tile<Format, 3, kAcross>(a, lda, panel, c, ldc, columns, units, accumulate);
    case 2:
      return tile<Format, 2, kAcross>(a, lda, panel, c, ldc, columns, units, accumulate);
    case 1:
      return tile<Format, 1, kAcross>(a, lda, panel, c, ldc, columns, units, accumulate);
    default:
      return;
  }
}

template <class Format>
void multiply_panel(const uint32_t* a,
                    int64_t lda,
                    const uint32_t* panel,
                    float* c,
                    int64_t ldc,
                    int64_t rows,
                    int64_t columns,
                    int64_t units,
                    bool accumulate) {
  switch ((columns + kLanes - 1) / kLanes) {
    case 1:
      return tiles<Format, 1>(a, lda, panel, c, ldc, rows, columns, units, accumulate);
    case 2:
      return tiles<Format, 2>(a, lda, panel, c, ldc, rows, columns, units, accumulate);
    case 3:
      return tiles<Format, 3>(a, lda, panel, c, ldc, rows, columns, units, accumulate);
    case 4:
      return tiles<Format, 4>(a, lda, panel, c, ldc, rows, columns, units, accumulate);
    default:
      return;
  }
}

}  // namespace
}  // namespace braid::BRAID_CPU_ISA

#include "kernels/cpu/coded_panels.h"

namespace braid::BRAID_CPU_ISA {
namespace {

template <class Format>
constexpr GemmKernels kernels_of() {
  return {kWidth,
          Format::kPair,
          kTileRows,
          96,
          8,
          1,
          pack_a<Format::kPair>,
          pack_b<Format::kPair>,
          pack_codes<Format::kPair>,
          turn_scales,
          multiply_panel<Format>,
          [](bool) {}};
}

}  // namespace
}  // namespace braid::BRAID_CPU_ISA
