// Products of the rows of experts with their matrices of bfloat16, all experts in one launch, sums
// in float32.
#include "kernels/cuda/expert_tiles.h"
#include "kernels/cuda/product_tiles.h"
#include "kernels/cuda/tables.h"

namespace braid::cuda {
namespace {

// Matrices [O, I] are the right factor of a W^T by rows, of a W by terms.
template <bool kByColumns, bool kWarpgroups>
using RowsTile = ProductTile<false, kByColumns, kWarpgroups ? 256 : 128, kWarpgroups>;
// Both factors of a gradient have a row in memory for each row of an expert, which are its terms.
template <bool kWarpgroups>
using GradientTile = ProductTile<true, true, kWarpgroups ? 256 : 128, kWarpgroups>;

template <bool kByColumns, bool kWarpgroups>
__global__ void __launch_bounds__(256, kWarpgroups ? 1 : 2) expert_rows_kernel(ExpertProducts p) {
  if constexpr (kWarpgroups && !kHasWarpgroupProducts) {
    return;
  }
  using Tile = RowsTile<kByColumns, kWarpgroups>;
  BRAID_DYNAMIC_SHARED(memory);
  const ExpertTile rows =
      expert_tile<Tile::kRows>(p.bounds, static_cast<int>(p.E), static_cast<int>(blockIdx.y));
  if (rows.first >= rows.end) {
    return;  // the whole block
  }
  const int64_t terms = kByColumns ? p.O : p.I, columns = kByColumns ? p.I : p.O;
  const int64_t first_column = int64_t{blockIdx.x} * Tile::kColumns;
  const Bfloat16* matrix = p.matrices + int64_t{rows.expert} * p.O * p.I;
  Tile tile;
  tile.multiply(
      memory,
      {p.a + int64_t{rows.first} * terms, terms, rows.end - rows.first, terms},
      {matrix + first_column * (kByColumns ? 1 : p.I), p.I, columns - first_column, terms});
  tile.for_each_pair([&](int of_row, int of_column, float first, float second) {
    const int64_t row = rows.first + of_row, column = first_column + of_column;
    if (row < rows.end && column < columns) {
      Bfloat16* out = p.out + row * columns + column;
      const float before[2] = {p.accumulate ? widened(out[0]) : 0.0f,
                               p.accumulate ? widened(out[1]) : 0.0f};
      *reinterpret_cast<uint32_t*>(out) = narrowed_pair(before[0] + first, before[1] + second);
    }
  });
}

template <bool kWarpgroups>
__global__ void __launch_bounds__(256, kWarpgroups ? 1 : 2)
    expert_gradient_kernel(ExpertGradientProducts p) {
  if constexpr (kWarpgroups && !kHasWarpgroupProducts) {
    return;
  }
  using Tile = GradientTile<kWarpgroups>;
  BRAID_DYNAMIC_SHARED(memory);
  const int64_t begin = p.bounds[blockIdx.z], rows = p.bounds[blockIdx.z + 1] - begin;
  const int64_t first_row = int64_t{blockIdx.y} * Tile::kRows,
                first_column = int64_t{blockIdx.x} * Tile::kColumns;
  Tile tile;
  tile.multiply(memory,
                {p.a + begin * p.O + first_row, p.O, p.O - first_row, rows},
                {p.b + begin * p.I + first_column, p.I, p.I - first_column, rows});
  float* out = p.out + blockIdx.z * p.O * p.I;
  tile.for_each_pair([&](int of_row, int of_column, float first, float second) {
    const int64_t row = first_row + of_row, column = first_column + of_column;
    if (row < p.O && column < p.I) {
      *reinterpret_cast<float2*>(out + row * p.I + column) = {first, second};
    }
  });
}

template <bool kByColumns, bool kWarpgroups>
void queue_rows(const ExpertProducts& p, void* stream) {
  using Tile = RowsTile<kByColumns, kWarpgroups>;
  launch_with_shared(
      expert_rows_kernel<kByColumns, kWarpgroups>,
      {blocks_of(kByColumns ? p.I : p.O, Tile::kColumns), expert_tiles<Tile::kRows>(p.R, p.E)},
      Tile::kThreads,
      Tile::kBytes,
      stream,
      p);
}

template <bool kWarpgroups>
void queue_gradients(const ExpertGradientProducts& p, void* stream) {
  using Tile = GradientTile<kWarpgroups>;
  launch_with_shared(
      expert_gradient_kernel<kWarpgroups>,
      {blocks_of(p.I, Tile::kColumns), blocks_of(p.O, Tile::kRows), static_cast<unsigned>(p.E)},
      Tile::kThreads,
      Tile::kBytes,
      stream,
      p);
}

void require_products(int64_t O, int64_t I) {
  require(has_expert_products(O, I), "[experts] no kernel for matrices of ", O, " x ", I);
}

void multiply_expert_rows(const ExpertProducts& p, bool by_columns, void* stream) {
  require_products(p.O, p.I);
  require_whole(kPiece, p.a, p.matrices, p.out);
  if (has_warpgroup_products()) {
    by_columns ? queue_rows<true, true>(p, stream) : queue_rows<false, true>(p, stream);
  } else {
    by_columns ? queue_rows<true, false>(p, stream) : queue_rows<false, false>(p, stream);
  }
}

void multiply_expert_gradients(const ExpertGradientProducts& p, void* stream) {
  require_products(p.O, p.I);
  require_whole(kPiece, p.a, p.b, p.out);
  has_warpgroup_products() ? queue_gradients<true>(p, stream) : queue_gradients<false>(p, stream);
}

}  // namespace

void add_expert_products(CudaKernels& table) {
  table.bfloat16.multiply_expert_rows = multiply_expert_rows;
  table.bfloat16.multiply_expert_gradients = multiply_expert_gradients;
}

}  // namespace braid::cuda
