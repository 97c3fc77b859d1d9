// Products of matrices of bfloat16 for Newton-Schulz, sums in float32. Where the result is
// symmetric there are blocks for the tiles at and below the diagonal alone, which write their
// elements to both places.
#include "kernels/cuda/product_tiles.h"
#include "kernels/cuda/tables.h"

namespace braid::cuda {
namespace {

// b's memory has a row for each term, or where the product is symmetric for each column of it.
template <bool kSymmetric, bool kWarpgroups>
using Tile = ProductTile<false, !kSymmetric, kWarpgroups ? 256 : 128, kWarpgroups>;

// How many tiles of a row of tiles have elements at or below the diagonal.
template <class ThisTile>
__host__ __device__ int64_t tiles_to_diagonal(int64_t row_tile) {
  return ((row_tile + 1) * ThisTile::kRows - 1) / ThisTile::kColumns + 1;
}

template <bool kSymmetric, bool kWarpgroups>
__global__ void __launch_bounds__(256, kWarpgroups ? 1 : 2)
    matrix_product_kernel(MatrixProducts p) {
  if constexpr (kWarpgroups && !kHasWarpgroupProducts) {
    return;
  }
  using ThisTile = Tile<kSymmetric, kWarpgroups>;
  BRAID_DYNAMIC_SHARED(memory);
  int64_t row_tile = blockIdx.y, column_tile = blockIdx.x;
  if constexpr (kSymmetric) {
    row_tile = 0;
    while (column_tile >= tiles_to_diagonal<ThisTile>(row_tile)) {
      column_tile -= tiles_to_diagonal<ThisTile>(row_tile++);
    }
  }
  const int64_t first_row = row_tile * ThisTile::kRows,
                first_column = column_tile * ThisTile::kColumns;
  const Bfloat16 *a = p.a + blockIdx.z * p.rows * p.depth,
                 *b = p.b + blockIdx.z * p.columns * p.depth;
  ThisTile tile;
  tile.multiply(memory,
                {a + first_row * p.depth, p.depth, p.rows - first_row, p.depth},
                {kSymmetric ? b + first_column * p.depth : b + first_column,
                 kSymmetric ? p.depth : p.columns,
                 p.columns - first_column,
                 p.depth});
  const int64_t result = blockIdx.z * p.rows * p.columns;
  tile.for_each_pair([&](int of_row, int of_column, float first, float second) {
    const int64_t row = first_row + of_row;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int64_t column = first_column + of_column + i;
      if (row >= p.rows || column >= p.columns || (kSymmetric && column > row)) {
        continue;
      }
      const int64_t at = result + row * p.columns + column;
      float value =
          p.of_product * (i == 0 ? first : second) + (row == column ? p.of_identity : 0.0f);
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
  });
}

template <bool kSymmetric, bool kWarpgroups>
void queue_products(const MatrixProducts& p, void* stream) {
  using ThisTile = Tile<kSymmetric, kWarpgroups>;
  const unsigned rows = blocks_of(p.rows, ThisTile::kRows), count = blocks_of(p.count, 1);
  dim3 grid{blocks_of(p.columns, ThisTile::kColumns), rows, count};
  if (kSymmetric) {
    int64_t tiles = 0;
    for (unsigned row = 0; row < rows; ++row) {
      tiles += tiles_to_diagonal<ThisTile>(row);
    }
    grid = {static_cast<unsigned>(tiles), 1, count};
  }
  launch_with_shared(matrix_product_kernel<kSymmetric, kWarpgroups>,
                     grid,
                     ThisTile::kThreads,
                     ThisTile::kBytes,
                     stream,
                     p);
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
  if (has_warpgroup_products()) {
    p.symmetric ? queue_products<true, true>(p, stream) : queue_products<false, true>(p, stream);
  } else {
    p.symmetric ? queue_products<true, false>(p, stream) : queue_products<false, false>(p, stream);
  }
}

}  // namespace

void add_newton_schulz(CudaKernels& table) {
  table.bfloat16.multiply_matrices = multiply_matrices;
}

}  // namespace braid::cuda
