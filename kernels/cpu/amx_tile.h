#pragma once
// Products of packed blocks (gemm_loops.h) on tile registers, for bfloat16 pairs, in files that
// name what gemm_tile.h wants to know. Its packing has the layout that the registers read: a
// register holds 16 rows of 16 units, of A along its rows, of a panel 16 of its units by 16 of its
// columns.
//
// `Tiles` are the registers, which a test spells out:
//
//   Tiles::configure(shape)                the registers have these sizes, and hold zeros
//   Tiles::release()
//   Tiles::zero<register>(), load<register>(from, bytes between rows), store<register>(to, bytes)
//   Tiles::multiply_add<sum, a, b>()
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/gemm_tile.h"

namespace braid::BRAID_CPU_ISA {
namespace {

constexpr int64_t kTileSide = 16;  // rows of a register, and 32-bit elements of a row
// Products are several times as fast as those of vectors, so that fetching a panel takes the time
// of more rows, and more of them have to share it.
constexpr int64_t kBlockRows = 256, kPanelRows = 32;

/// Registers 0 to 3 hold sums, 4 and 5 rows of A, 6 and 7 columns of a panel. The sums are 2 x 2
/// registers, or 1 x 4 where no more rows are left than one register has.
struct TileShape {
  uint8_t first_rows = 0;   ///< of registers 0, 1 and 4
  uint8_t second_rows = 0;  ///< of registers 2, 3 and 5
  uint8_t units = 0;        ///< of a row of 4 and 5; the rows of 6 and 7

  bool operator==(const TileShape&) const = default;

  uint8_t rows(int index) const {
    return index >= 6 ? units : index == 2 || index == 3 || index == 5 ? second_rows : first_rows;
  }
  uint16_t row_bytes(int index) const {
    return static_cast<uint16_t>(4 * (index == 4 || index == 5 ? units : kTileSide));
  }
};

struct TileState {
  TileShape shape;
  bool kept = false;
};
thread_local TileState tile_state;

template <class Tiles>
void shape_tiles(const TileShape& shape) {
  if (!(tile_state.shape == shape)) {
    Tiles::configure(shape);
    tile_state.shape = shape;
  }
}

template <class Tiles>
void release_tiles() {
  Tiles::release();
  tile_state.shape = {};
}

template <class Tiles>
void keep_tiles(bool keep) {
  tile_state.kept = keep;
  if (!keep) {
    release_tiles<Tiles>();
  }
}

/// Where sums begin and end: rows [0, rows) and columns [0, columns) of C from `c` on.
struct TileOfC {
  float* c;
  int64_t ldc, rows, columns;
  bool accumulate;

  template <class Tiles, int kRegister>
  void begin() const {
    if (!accumulate) {
      Tiles::template zero<kRegister>();
    } else if (columns >= kTileSide) {
      Tiles::template load<kRegister>(c, ldc * sizeof(float));
    } else {
      alignas(64) float whole[kTileSide * kTileSide] = {};
      for (int64_t row = 0; row < rows; ++row) {
        std::copy_n(c + row * ldc, columns, whole + row * kTileSide);
      }
      Tiles::template load<kRegister>(whole, kTileSide * sizeof(float));
    }
  }

  template <class Tiles, int kRegister>
  void end() const {
    if (columns >= kTileSide) {
      Tiles::template store<kRegister>(c, ldc * sizeof(float));
      return;
    }
    alignas(64) float whole[kTileSide * kTileSide];
    Tiles::template store<kRegister>(whole, kTileSide * sizeof(float));
    for (int64_t row = 0; row < rows; ++row) {
      std::copy_n(whole + row * kTileSide, columns, c + row * ldc);
    }
  }
};

/// What is multiplied in a step along the depth: units of A from `a` on by those of a panel from
/// `b` on, counted from where the step begins.
struct TileTerm {
  int64_t a, b;
};
struct WholeValues {
  static constexpr int64_t kUnits = kTileSide;  // of a step
  static constexpr TileTerm kTerms[] = {{0, 0}};
};
/// Of three parts (GemmKernels::parts), those products that are above 2^-24 of the whole, the
/// smallest first.
struct SplitValues {
  static constexpr int64_t kUnits = 3 * kTileSide;
  static constexpr TileTerm kTerms[] = {{0, 2 * kTileSide},
                                        {2 * kTileSide, 0},
                                        {kTileSide, kTileSide},
                                        {0, kTileSide},
                                        {kTileSide, 0},
                                        {0, 0}};
};

/// The operands of `steps` steps: A's rows from `a` on, a panel's columns from `b` on.
template <class Values>
struct TileSteps {
  const uint32_t *a, *b;
  int64_t lda, steps;

  /// f(where rows of A begin, where rows of the panel begin) for all that is multiplied.
  template <class F>
  void for_each(const F& f) const {
    for (int64_t first = 0; first < steps * Values::kUnits; first += Values::kUnits) {
      for (const auto& term : Values::kTerms) {
        f(a + first + term.a, b + (first + term.b) * kWidth);
      }
    }
  }
  template <class Tiles, int kRegister>
  void load_a(const uint32_t* from, int64_t row) const {
    Tiles::template load<kRegister>(from + row * lda, lda * sizeof *from);
  }
  template <class Tiles, int kRegister>
  static void load_b(const uint32_t* from, int64_t column) {
    Tiles::template load<kRegister>(from + column, kWidth * sizeof *from);
  }
};

// 2 x 2 registers of sums, or 2 x 1.
template <class Tiles, int kAcross, class Values>
void sum_two_rows(TileSteps<Values> operands, TileOfC c, int64_t column) {
  const auto of = [&](int64_t row, int64_t v) {
    const int64_t first = column + v * kTileSide;
    return TileOfC{c.c + row * kTileSide * c.ldc + first,
                   c.ldc,
                   row == 0 ? kTileSide : c.rows - kTileSide,
                   c.columns - first,
                   c.accumulate};
  };
  of(0, 0).template begin<Tiles, 0>();
  of(1, 0).template begin<Tiles, 2>();
  if constexpr (kAcross == 2) {
    of(0, 1).template begin<Tiles, 1>();
    of(1, 1).template begin<Tiles, 3>();
  }
  operands.for_each([&](const uint32_t* a, const uint32_t* b) __attribute__((always_inline)) {
    operands.template load_b<Tiles, 6>(b, column);
    operands.template load_a<Tiles, 4>(a, 0);
    Tiles::template multiply_add<0, 4, 6>();
    operands.template load_a<Tiles, 5>(a, kTileSide);
    Tiles::template multiply_add<2, 5, 6>();
    if constexpr (kAcross == 2) {
      operands.template load_b<Tiles, 7>(b, column + kTileSide);
      Tiles::template multiply_add<1, 4, 7>();
      Tiles::template multiply_add<3, 5, 7>();
    }
  });
  of(0, 0).template end<Tiles, 0>();
  of(1, 0).template end<Tiles, 2>();
  if constexpr (kAcross == 2) {
    of(0, 1).template end<Tiles, 1>();
    of(1, 1).template end<Tiles, 3>();
  }
}

// 1 x kAcross registers of sums.
template <class Tiles, int kAcross, class Values>
void sum_one_row(TileSteps<Values> operands, TileOfC c) {
  constexpr auto kRegisters = std::make_integer_sequence<int, kAcross>{};
  const auto of = [&](int64_t v) {
    const int64_t first = v * kTileSide;
    return TileOfC{c.c + first, c.ldc, c.rows, c.columns - first, c.accumulate};
  };
  for_indices(kRegisters, [&](auto v) { of(v).template begin<Tiles, v>(); });
  operands.for_each([&](const uint32_t* a, const uint32_t* b) __attribute__((always_inline)) {
    operands.template load_a<Tiles, 4>(a, 0);
    for_indices(
        kRegisters, [&](auto v) __attribute__((always_inline)) {
          operands.template load_b<Tiles, 6 + v % 2>(b, v * kTileSide);
          Tiles::template multiply_add<v, 4, 6 + v % 2>();
        });
  });
  for_indices(kRegisters, [&](auto v) { of(v).template end<Tiles, v>(); });
}

// The whole product along `steps` x `units` of the depth.
template <class Tiles, class Values>
void multiply_steps(TileSteps<Values> operands, TileOfC c, int64_t units) {
  const auto shaped = [&](int64_t first, int64_t second) {
    shape_tiles<Tiles>(
        {static_cast<uint8_t>(first), static_cast<uint8_t>(second), static_cast<uint8_t>(units)});
  };
  const int64_t all_rows = c.rows;
  for (int64_t row = 0; row < all_rows;) {
    const int64_t left = all_rows - row;
    c.rows = std::min(left, 2 * kTileSide);
    if (left > kTileSide) {
      shaped(kTileSide, c.rows - kTileSide);
      for (int64_t column = 0; column < c.columns; column += 2 * kTileSide) {
        if (c.columns - column > kTileSide) {
          sum_two_rows<Tiles, 2>(operands, c, column);
        } else {
          sum_two_rows<Tiles, 1>(operands, c, column);
        }
      }
    } else {
      shaped(left, left);
      const int64_t across = (c.columns + kTileSide - 1) / kTileSide;
      across == 4   ? sum_one_row<Tiles, 4>(operands, c)
      : across == 3 ? sum_one_row<Tiles, 3>(operands, c)
      : across == 2 ? sum_one_row<Tiles, 2>(operands, c)
                    : sum_one_row<Tiles, 1>(operands, c);
    }
    row += c.rows;
    operands.a += c.rows * operands.lda;
    c.c += c.rows * c.ldc;
  }
}

template <class Tiles, class Values>
void multiply_on_tiles(const uint32_t* a,
                       int64_t lda,
                       const uint32_t* panel,
                       float* c,
                       int64_t ldc,
                       int64_t rows,
                       int64_t columns,
                       int64_t units,
                       bool accumulate) {
  static_assert(kWidth == 4 * kTileSide);
  const int64_t steps = units / Values::kUnits, whole = steps * Values::kUnits;
  if (steps > 0) {
    multiply_steps<Tiles, Values>(
        {a, panel, lda, steps}, {c, ldc, rows, columns, accumulate}, kTileSide);
  }
  if (units > whole) {  // not of split values, whose packing ends with a whole step
    multiply_steps<Tiles, Values>({a + whole, panel + whole * kWidth, lda, 1},
                                  {c, ldc, rows, columns, accumulate || steps > 0},
                                  units - whole);
  }
  if (!tile_state.kept) {
    release_tiles<Tiles>();
  }
}

static_assert(kSplitDepth == 2 * kTileSide && kSplitUnits == kTileSide);

/// x as a sum of three bfloat16 in the upper halves, but for 2^-24 of it.
struct ThreeParts {
  Units8 parts[3];

  explicit ThreeParts(const Units8& x) {
    using Floats8 [[gnu::vector_size(32)]] = float;
    auto rest = (Floats8)x;
    for (auto& part : parts) {
      part = rounded_to_bf16((Units8)rest);
      rest -= (Floats8)part;
    }
  }
};

// A row's pairs of neighbors in each part; `from` has a whole step of float32 bits.
inline void split_row(const uint32_t* from, uint32_t* to) {
  for (int64_t i = 0; i < kSplitDepth; i += 16) {
    const ThreeParts first(loaded<Units8>(from + i)), second(loaded<Units8>(from + i + 8));
    for (int64_t part = 0; part < 3; ++part) {
      uint32_t values[16];
      stored(first.parts[part], values);
      stored(second.parts[part], values + 8);
      stored(paired(values), to + part * kTileSide + i / 2);
    }
  }
}

// A panel's pairs of rows in each part.
inline void split_panel(const uint32_t* from, uint32_t* to) {
  for (int64_t unit = 0; unit < kTileSide; ++unit, from += 2 * kWidth, to += kWidth) {
    for (int64_t column = 0; column < kWidth; column += 8) {
      const ThreeParts first(loaded<Units8>(from + column)),
          second(loaded<Units8>(from + kWidth + column));
      for (int64_t part = 0; part < 3; ++part) {
        stored((first.parts[part] >> 16) | second.parts[part],
               to + part * kTileSide * kWidth + column);
      }
    }
  }
}

inline void pack_split_a(const GemmOperand& a,
                         int64_t row,
                         int64_t k,
                         int64_t rows,
                         int64_t depth,
                         uint32_t* to,
                         int64_t lda) {
  for (int64_t first = 0; first < rows; first += kTileSide) {
    const int64_t count = std::min(kTileSide, rows - first);
    for (int64_t done = 0; done < depth; done += kSplitDepth) {
      uint32_t whole[kTileSide * kSplitDepth] = {};
      pack_a<1>(
          a, row + first, k + done, count, std::min(kSplitDepth, depth - done), whole, kSplitDepth);
      for (int64_t i = 0; i < count; ++i) {
        split_row(whole + i * kSplitDepth,
                  to + (first + i) * lda + done / kSplitDepth * 3 * kTileSide);
      }
    }
  }
}

inline void pack_split_b(
    const GemmOperand& b, int64_t k, int64_t column, int64_t depth, int64_t columns, uint32_t* to) {
  for (int64_t done = 0; done < depth; done += kSplitDepth, to += 3 * kTileSide * kWidth) {
    uint32_t whole[kSplitDepth * kWidth] = {};
    pack_b<1>(b, k + done, column, std::min(kSplitDepth, depth - done), columns, whole);
    split_panel(whole, to);
  }
}

template <class Tiles>
constexpr GemmKernels split_kernels_on_tiles() {
  return {kWidth,
          2,
          2 * kTileSide,
          kBlockRows,
          kPanelRows,
          3,
          pack_split_a,
          pack_split_b,
          nullptr,
          nullptr,
          multiply_on_tiles<Tiles, SplitValues>,
          keep_tiles<Tiles>};
}

template <class Tiles>
constexpr GemmKernels kernels_on_tiles() {
  return {kWidth,
          2,
          2 * kTileSide,
          kBlockRows,
          kPanelRows,
          1,
          pack_a<2>,
          pack_b<2>,
          pack_codes<2>,
          turn_scales,
          multiply_on_tiles<Tiles, WholeValues>,
          keep_tiles<Tiles>};
}

}  // namespace
}  // namespace braid::BRAID_CPU_ISA
