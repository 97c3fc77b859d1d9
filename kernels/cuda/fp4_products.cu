// Products of bfloat16 rows with FP4 matrices of experts: codes are decoded in registers, where
// mma.sync, or wgmma on Hopper, takes them from. A value of FP4 times a power of two is exact in
// bfloat16. A block has 64 rows, or 128, and 128 columns of the result of one expert.
#include "kernels/cuda/code_values.h"
#include "kernels/cuda/matrix_tiles.h"
#include "kernels/cuda/tables.h"
#include "kernels/cuda/warpgroup.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int kRows = 64, kColumns = 128, kSteps = 64;  // of a tile; steps: terms of its sums
constexpr int kRowTiles = kRows / 16, kColumnTiles = kColumns / kWarps / 8;
constexpr int kCopied = 16;  // bytes, of 32 codes
constexpr int kCodeBytes = kSteps * kColumns / 2, kRowsBytes = kRows * kSteps * 2;
constexpr int kTileBytes = kRowsBytes + kCodeBytes;

// The codes of a tile: rows of the matrix, which are columns of the product a W^T and steps of a W.
template <bool kByColumns>
struct CodeTile {
  static constexpr int kCodeRows = kByColumns ? kSteps : kColumns;
  static constexpr int kRowBytes = kCodeBytes / kCodeRows;

  const Fp4Products& p;
  const Fp4Matrix& matrix;
  int64_t first_column;  // of the result

  __device__ void load(unsigned char* memory, int64_t first_step) const {
    constexpr int kPieces = kRowBytes / kCopied;
    const int64_t first_row = kByColumns ? first_step : first_column,
                  first_byte = (kByColumns ? first_column : first_step) / 2;
    for (int i = thread_index(); i < kCodeRows * kPieces; i += kThreads) {
      const int64_t row = first_row + i / kPieces, byte = first_byte + i % kPieces * kCopied;
      const bool exists = row < p.O && byte < p.I / 2;
      copy_async(
          memory + i * kCopied, exists ? matrix.values + row * (p.I / 2) + byte : nullptr, exists);
    }
  }

  // As bfloat16.
  __device__ uint32_t scale(int64_t row, int64_t column) const {
    return row < p.O && column < p.I
               ? e8m0_bits(matrix.scales[row * (p.I / kFp4Group) + column / kFp4Group])
               : 0u;
  }

  // A pair of values, for steps `step` and + 1 of a tile and a column of it.
  __device__ uint32_t pair(const unsigned char* memory,
                           int64_t first_step,
                           int step,
                           int column) const {
    const int64_t row = first_step + step;
    if constexpr (kByColumns) {
      const int shift = column % 2 * 4;
      const uint32_t a = memory[step * kRowBytes + column / 2] >> shift & 0xf,
                     b = memory[(step + 1) * kRowBytes + column / 2] >> shift & 0xf;
      return multiplied_pairs(
          e2m1_pair(a | b << 4),
          scale(row, first_column + column) | scale(row + 1, first_column + column) << 16);
    } else {
      const uint32_t both = scale(first_column + column, row);
      return multiplied_pairs(e2m1_pair(memory[column * kRowBytes + step / 2]), both | both << 16);
    }
  }
};

template <bool kByColumns>
__global__ void __launch_bounds__(kThreads) fp4_product_kernel(Fp4Products p) {
  BRAID_DYNAMIC_SHARED(memory);
  const Fp4Matrix matrix = p.matrices[blockIdx.z];
  const int64_t first_row = int64_t{blockIdx.x} * kRows;
  const int64_t steps = kByColumns ? p.O : p.I, columns = kByColumns ? p.I : p.O;
  if (first_row >= matrix.rows) {
    return;  // the whole block
  }
  const int warp = thread_index() / kWarp, lane = thread_index() % kWarp;
  const CodeTile<kByColumns> codes{p, matrix, int64_t{blockIdx.y} * kColumns};
  const auto rows_of = [&](int64_t tile) {
    return TileRows<kSteps>{memory + tile % 2 * kTileBytes};
  };
  const auto codes_at = [&](int64_t tile) { return rows_of(tile).memory + kRowsBytes; };
  const auto load = [&](int64_t tile) {
    const int64_t first_step = tile * kSteps;
    rows_of(tile).template load<kThreads>(kRows, steps - first_step, [&](int i) {
      const int64_t row = first_row + i;
      return row < matrix.rows ? matrix.a + row * steps + first_step : nullptr;
    });
    codes.load(codes_at(tile), first_step);
  };
  float d[kRowTiles][kColumnTiles][4] = {};
  const int64_t tiles = (steps + kSteps - 1) / kSteps;
  start_tiles(tiles, load);
  for (int64_t tile = 0; tile < tiles; ++tile) {
    await_tile(tile, tiles, load);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kSteps / 16; ++k) {
      uint32_t b[kColumnTiles][2];
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n) {
        const int column = (warp * kColumnTiles + n) * 8 + lane / 4;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          b[n][half] =
              codes.pair(codes_at(tile), tile * kSteps, 16 * k + 8 * half + lane % 4 * 2, column);
        }
      }
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        if (first_row + 16 * m < matrix.rows) {
          uint32_t a[4];
          load_a(a, rows_of(tile), 16 * m, 2 * k);
#pragma unroll
          for (int n = 0; n < kColumnTiles; ++n) {
            multiply_add(d[m][n], a, b[n][0], b[n][1]);
          }
        }
      }
    }
    __syncthreads();  // the tile has been read
  }
  wait_for_copies<0>();
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int v = 0; v < 4; v += 2) {
      const int64_t row = first_row + 16 * m + 4 * v + lane / 4;
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n) {
        const int64_t column = codes.first_column + (warp * kColumnTiles + n) * 8 + lane % 4 * 2;
        if (row < matrix.rows && column < columns) {
          Bfloat16* out = matrix.out + row * columns + column;
          const float before[2] = {p.accumulate ? widened(out[0]) : 0.0f,
                                   p.accumulate ? widened(out[1]) : 0.0f};
          *reinterpret_cast<uint32_t*>(out) =
              narrowed_pair(before[0] + d[m][n][v], before[1] + d[m][n][v + 1]);
        }
      }
    }
  }
}

// ---- By wgmma, for Hopper ----

constexpr int kWideRows = 128;  // of a tile
constexpr int kWideTileBytes = kWideRows * kSteps * 2 + kCodeBytes;
constexpr int kColumnsOfGroup = kColumns / 2,
              kStagedColumns = kColumnsOfGroup + 4;  // for the banks
constexpr int kStagedBytes = kWideRows * kStagedColumns * static_cast<int>(sizeof(float));
static_assert(kThreads == 2 * kWarpgroup && kColumnsOfGroup == 64 &&
              kStagedBytes <= 2 * kWideTileBytes);

// The result transposed: a warpgroup has 64 of its columns, whose codes it decodes in registers,
// times all rows of the tile. Sums go to the result by way of shared memory, a warpgroup at a time.
template <bool kByColumns>
__global__ void __launch_bounds__(kThreads, 2) fp4_warpgroup_kernel(Fp4Products p) {
  if constexpr (!kHasWarpgroupProducts) {
    return;
  }
  BRAID_DYNAMIC_SHARED(memory);
  const Fp4Matrix matrix = p.matrices[blockIdx.z];
  const int64_t first_row = int64_t{blockIdx.x} * kWideRows;
  const int64_t steps = kByColumns ? p.O : p.I, columns = kByColumns ? p.I : p.O;
  if (first_row >= matrix.rows) {
    return;  // the whole block
  }
  const int lane = thread_index() % kWarp, group = thread_index() / kWarpgroup;
  const int column = thread_index() / kWarp * 16 + lane / 4;  // and + 8, of the tile
  const CodeTile<kByColumns> codes{p, matrix, int64_t{blockIdx.y} * kColumns};
  using Rows = PanelRows<kSteps, kWideRows>;
  const auto rows_of = [&](int64_t tile) { return Rows{memory + tile % 2 * kWideTileBytes}; };
  const auto codes_at = [&](int64_t tile) { return rows_of(tile).memory + Rows::kBytes; };
  const auto load = [&](int64_t tile) {
    const int64_t first_step = tile * kSteps;
    rows_of(tile).template load<kThreads>(kWideRows, steps - first_step, [&](int i) {
      const int64_t row = first_row + i;
      return row < matrix.rows ? matrix.a + row * steps + first_step : nullptr;
    });
    codes.load(codes_at(tile), first_step);
  };
  float d[kWideRows / 2] = {};
  const int64_t tiles = (steps + kSteps - 1) / kSteps;
  start_tiles(tiles, load);
  for (int64_t tile = 0; tile < tiles; ++tile) {
    await_tile(tile, tiles, load);
    publish_shared();
    __syncthreads();
    uint32_t a[2][4];  // one is decoded while the other is multiplied
#pragma unroll 2
    for (int k = 0; k < kSteps / 16; ++k) {
      wait_for_products<1>();
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        a[k % 2][i] = codes.pair(
            codes_at(tile), tile * kSteps, 16 * k + i / 2 * 8 + lane % 4 * 2, column + i % 2 * 8);
      }
      fence_registers(d, a[k % 2]);
      warpgroup_multiply(d, a[k % 2], by_rows(rows_of(tile), 0, k), true);
      commit_products();
    }
    wait_for_products<0>(d);
    __syncthreads();  // the tile has been read
  }
  wait_for_copies<0>();

  auto* staged = reinterpret_cast<float*>(memory);  // [rows, columns of a group]
#pragma unroll 1
  for (int owner = 0; owner < 2; ++owner) {
    if (group == owner) {
#pragma unroll
      for (int v = 0; v < kWideRows / 2; ++v) {
        const int row = v / 4 * kPiece + lane % 4 * 2 + v % 2;
        staged[row * kStagedColumns + column % kColumnsOfGroup + v / 2 % 2 * 8] = d[v];
      }
    }
    __syncthreads();
    constexpr int kPieces = kColumnsOfGroup / kPiece;
    for (int i = thread_index(); i < kWideRows * kPieces; i += kThreads) {
      const int64_t row = first_row + i / kPieces;
      const int64_t begin =
          codes.first_column + owner * kColumnsOfGroup + int64_t{i % kPieces} * kPiece;
      if (row < matrix.rows && begin < columns) {
        const float* from = staged + i / kPieces * kStagedColumns + i % kPieces * kPiece;
        Bfloat16* out = matrix.out + row * columns;
        float sum[kPiece] = {};
        if (p.accumulate) {
          braid::cuda::load<true>(out, begin, columns, sum);
        }
#pragma unroll
        for (int c = 0; c < kPiece; ++c) {
          sum[c] += from[c];
        }
        store<true>(sum, out, begin, columns);
      }
    }
    __syncthreads();  // the sums have been read
  }
}

template <bool kByColumns>
void queue_products(const Fp4Products& p, void* stream) {
  int64_t most = 0;
  bool aligned = true;
  for (int i = 0; i < p.count; ++i) {
    most = most < p.matrices[i].rows ? p.matrices[i].rows : most;
    aligned = aligned && are_whole(kPiece, p.matrices[i].out);
  }
  const bool by_warpgroups = has_warpgroup_products() && aligned;
  launch_with_shared(
      by_warpgroups ? fp4_warpgroup_kernel<kByColumns> : fp4_product_kernel<kByColumns>,
      {blocks_of(most, by_warpgroups ? kWideRows : kRows),
       blocks_of(kByColumns ? p.I : p.O, kColumns),
       static_cast<unsigned>(p.count)},
      kThreads,
      2 * (by_warpgroups ? kWideTileBytes : kTileBytes),
      stream,
      p);
}

void multiply_fp4(const Fp4Products& p, bool by_columns, void* stream) {
  require(has_fp4_products(p.O, p.I), "[fp4] no kernel for matrices of ", p.O, " x ", p.I);
  by_columns ? queue_products<true>(p, stream) : queue_products<false>(p, stream);
}

}  // namespace

void add_fp4_products(CudaKernels& table) {
  table.bfloat16.multiply_fp4 = multiply_fp4;
}

}  // namespace braid::cuda
