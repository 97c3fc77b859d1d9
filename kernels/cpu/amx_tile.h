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

/// The operands of `steps` multiplications: A's rows from `a` on, a panel's columns from `b` on.
struct TileSteps {
  const uint32_t *a, *b;
  int64_t lda, steps;

  template <class Tiles, int kRegister>
  void load_a(int64_t step, int64_t row) const {
    Tiles::template load<kRegister>(a + row * lda + step * kTileSide, lda * sizeof *a);
  }
  template <class Tiles, int kRegister>
  void load_b(int64_t step, int64_t column) const {
    Tiles::template load<kRegister>(b + step * kTileSide * kWidth + column, kWidth * sizeof *b);
  }
};

// 2 x 2 registers of sums, or 2 x 1.
template <class Tiles, int kAcross>
void sum_two_rows(TileSteps operands, TileOfC c, int64_t column) {
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
  for (int64_t step = 0; step < operands.steps; ++step) {
    operands.load_b<Tiles, 6>(step, column);
    operands.load_a<Tiles, 4>(step, 0);
    Tiles::template multiply_add<0, 4, 6>();
    operands.load_a<Tiles, 5>(step, kTileSide);
    Tiles::template multiply_add<2, 5, 6>();
    if constexpr (kAcross == 2) {
      operands.load_b<Tiles, 7>(step, column + kTileSide);
      Tiles::template multiply_add<1, 4, 7>();
      Tiles::template multiply_add<3, 5, 7>();
    }
  }
  of(0, 0).template end<Tiles, 0>();
  of(1, 0).template end<Tiles, 2>();
  if constexpr (kAcross == 2) {
    of(0, 1).template end<Tiles, 1>();
    of(1, 1).template end<Tiles, 3>();
  }
}

// 1 x kAcross registers of sums.
template <class Tiles, int kAcross>
void sum_one_row(TileSteps operands, TileOfC c) {
  constexpr auto kRegisters = std::make_integer_sequence<int, kAcross>{};
  const auto of = [&](int64_t v) {
    const int64_t first = v * kTileSide;
    return TileOfC{c.c + first, c.ldc, c.rows, c.columns - first, c.accumulate};
  };
  for_indices(kRegisters, [&](auto v) { of(v).template begin<Tiles, v>(); });
  for (int64_t step = 0; step < operands.steps; ++step) {
    operands.load_a<Tiles, 4>(step, 0);
    for_indices(kRegisters, [&](auto v) {
      operands.load_b<Tiles, 6 + v % 2>(step, v * kTileSide);
      Tiles::template multiply_add<v, 4, 6 + v % 2>();
    });
  }
  for_indices(kRegisters, [&](auto v) { of(v).template end<Tiles, v>(); });
}

// The whole product along `steps` x `units` of the depth.
template <class Tiles>
void multiply_steps(TileSteps operands, TileOfC c, int64_t units) {
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

template <class Tiles>
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
  const int64_t steps = units / kTileSide, whole = steps * kTileSide;
  if (steps > 0) {
    multiply_steps<Tiles>({a, panel, lda, steps}, {c, ldc, rows, columns, accumulate}, kTileSide);
  }
  if (units > whole) {
    multiply_steps<Tiles>({a + whole, panel + whole * kWidth, lda, 1},
                          {c, ldc, rows, columns, accumulate || steps > 0},
                          units - whole);
  }
  if (!tile_state.kept) {
    release_tiles<Tiles>();
  }
}

template <class Tiles>
constexpr GemmKernels kernels_on_tiles() {
  return {kWidth,
          2,
          2 * kTileSide,
          pack_a<2>,
          pack_b<2>,
          pack_codes<2>,
          turn_scales,
          multiply_on_tiles<Tiles>,
          keep_tiles<Tiles>};
}

}  // namespace
}  // namespace braid::BRAID_CPU_ISA
