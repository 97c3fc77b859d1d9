// Products of matrices of bfloat16 by mma.sync, sums in float32, a tile of 128 x 128 elements of
// the result to a block. Where the result is symmetric there are blocks for the tiles at and below
// the diagonal alone, which write their elements to both places.
#include "kernels/cuda/matrix_tiles.h"
#include "kernels/cuda/tables.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 128, kSteps = 64;  // steps: terms of a tile's sums
constexpr int kWarpRows = 64, kWarpColumns = 32;
constexpr int kRowTiles = kWarpRows / 16, kColumnTiles = kWarpColumns / 8;
constexpr int kFactorBytes = kTile * kSteps * 2, kStepBytes = 2 * kFactorBytes;

// b of a tile: rows are the columns of the product, or the terms of its sums.
template <bool kSymmetric>
struct RightTile {
  using Rows = std::conditional_t<kSymmetric, TileRows<kSteps>, TileRows<kTile>>;
  Rows rows;

  __device__ void load(const Bfloat16* b,
                       const MatrixProducts& p,
                       int64_t first_column,
                       int64_t first_step) const {
    if constexpr (kSymmetric) {
      rows.template load<kThreads>(kTile, static_cast<int>(p.depth - first_step), [&](int i) {
        const int64_t column = first_column + i;
        return column < p.columns ? b + column * p.depth + first_step : nullptr;
      });
    } else {
      rows.template load<kThreads>(kSteps, static_cast<int>(p.columns - first_column), [&](int i) {
        const int64_t step = first_step + i;
        return step < p.depth ? b + step * p.columns + first_column : nullptr;
      });
    }
  }
  // Of two products: columns [column, + 16) of the tile and steps [16 k, + 16).
  __device__ void operands(uint32_t (&to)[4], int column, int k) const {
    if constexpr (kSymmetric) {
      load_b(to, rows, column, 2 * k);
    } else {
      load_b_transposed(to, rows, 16 * k, column / kPiece);
    }
  }
};

template <bool kSymmetric>
__global__ void __launch_bounds__(kThreads, 2) matrix_product_kernel(MatrixProducts p) {
  BRAID_DYNAMIC_SHARED(memory);
  int64_t row_tile = blockIdx.y, column_tile = blockIdx.x;
  if constexpr (kSymmetric) {
    row_tile = 0;
    while ((row_tile + 1) * (row_tile + 2) / 2 <= column_tile) {
      ++row_tile;  // the first tiles of rows are 0, 1, 3, 6, ...
    }
    column_tile -= row_tile * (row_tile + 1) / 2;
  }
  const int64_t first_row = row_tile * kTile, first_column = column_tile * kTile;
  const Bfloat16 *a = p.a + blockIdx.z * p.rows * p.depth,
                 *b = p.b + blockIdx.z * p.columns * p.depth;
  const int warp = thread_index() / kWarp, lane = thread_index() % kWarp;
  const int warp_row = warp % 2 * kWarpRows, warp_column = warp / 2 * kWarpColumns;
  const auto left_of = [&](int64_t tile) {
    return TileRows<kSteps>{memory + tile % 2 * kStepBytes};
  };
  const auto right_of = [&](int64_t tile) {
    return RightTile<kSymmetric>{{left_of(tile).memory + kFactorBytes}};
  };
  const auto load = [&](int64_t tile) {
    const int64_t first_step = tile * kSteps;
    left_of(tile).template load<kThreads>(
        kTile, static_cast<int>(p.depth - first_step), [&](int i) {
          const int64_t row = first_row + i;
          return row < p.rows ? a + row * p.depth + first_step : nullptr;
        });
    right_of(tile).load(b, p, first_column, first_step);
  };
  float d[kRowTiles][kColumnTiles][4] = {};
  const int64_t tiles = (p.depth + kSteps - 1) / kSteps;
  start_tiles(tiles, load);
  for (int64_t tile = 0; tile < tiles; ++tile) {
    await_tile(tile, tiles, load);
    __syncthreads();
    const auto left = left_of(tile);
    const auto right = right_of(tile);
#pragma unroll 2
    for (int k = 0; k < kSteps / 16; ++k) {
      uint32_t left_operands[kRowTiles][4];
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        load_a(left_operands[m], left, warp_row + 16 * m, 2 * k);
      }
#pragma unroll
      for (int n = 0; n < kColumnTiles; n += 2) {
        uint32_t right_operands[4];
        right.operands(right_operands, warp_column + 8 * n, k);
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
          multiply_add(d[m][n], left_operands[m], right_operands[0], right_operands[1]);
          multiply_add(d[m][n + 1], left_operands[m], right_operands[2], right_operands[3]);
        }
      }
    }
    __syncthreads();  // the tile has been read
  }
  wait_for_copies<0>();

  const int64_t result = blockIdx.z * p.rows * p.columns;
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
      for (int v = 0; v < 4; ++v) {
        const int64_t row = first_row + warp_row + 16 * m + lane / 4 + v / 2 * 8;
        const int64_t column = first_column + warp_column + 8 * n + lane % 4 * 2 + v % 2;
        if (row >= p.rows || column >= p.columns || (kSymmetric && column > row)) {
          continue;
        }
        const int64_t at = result + row * p.columns + column;
        float value = p.of_product * d[m][n][v] + (row == column ? p.of_identity : 0.0f);
        value += p.added != nullptr ? p.of_added * p.added[at] : 0.0f;
        if (p.wide != nullptr) {
          p.wide[at] = value;
        }
        if (p.narrow != nullptr) {
          p.narrow[at] = narrowed<Bfloat16>(value);
          if (kSymmetric) {
            p.narrow[result + column * p.columns + row] = narrowed<Bfloat16>(value);
          }
        }
      }
    }
  }
}

void multiply_matrices(const MatrixProducts& p, void* stream) {
  require(has_matrix_products(p.columns, p.depth) && (!p.symmetric || p.rows == p.columns),
          "[matrix products] no kernel for ",
          p.rows,
          " x ",
          p.depth,
          " by ",
          p.columns);
  require_whole(kPiece, p.a, p.b);
  const unsigned rows = blocks_of(p.rows, kTile), columns = blocks_of(p.columns, kTile),
                 count = blocks_of(p.count, 1);
  if (p.symmetric) {
    launch_with_shared(matrix_product_kernel<true>,
                       {rows * (rows + 1) / 2, 1, count},
                       kThreads,
                       2 * kStepBytes,
                       stream,
                       p);
  } else {
    launch_with_shared(
        matrix_product_kernel<false>, {columns, rows, count}, kThreads, 2 * kStepBytes, stream, p);
  }
}

}  // namespace

void add_newton_schulz(CudaKernels& table) {
  table.bfloat16.multiply_matrices = multiply_matrices;
}

}  // namespace braid::cuda
