#pragma once
// Products of matrices of bfloat16 in global memory, sums in float32, a tile of the result to a
// block: by mma.sync, or by wgmma on Hopper.
#include "kernels/cuda/matrix_tiles.h"
#include "kernels/cuda/warpgroup.h"

namespace braid::cuda {

/// A factor in global memory. Rows of the factor are the result's rows (of the left one) or columns
/// (of the right one), and each has `terms` numbers, which the product sums over. In memory a row
/// of the factor is a row, or with kByTerms a column; rows in memory are multiples of pieces.
template <bool kByTerms>
struct Factor {
  const Bfloat16* memory;  ///< from the tile's first row on
  int64_t stride;          ///< of rows in memory
  int64_t rows, terms;     ///< from there on
};

/// A tile [kRows, kColumns] of left right^T, whose sums the block's kThreads threads hold.
template <bool kLeftByTerms, bool kRightByTerms, int kTileColumns, bool kWarpgroups>
class ProductTile {
 public:
  static constexpr int kThreads = 256, kRows = 128, kColumns = kTileColumns;
  static constexpr int kTerms = 64;  // at a time
  static constexpr int kStages = kWarpgroups ? 4 : 3;
  static constexpr int kLeftBytes = kRows * kTerms * 2, kRightBytes = kColumns * kTerms * 2;
  static constexpr int kStageBytes = kLeftBytes + kRightBytes;
  static constexpr int kBytes = kStages * kStageBytes;  ///< of shared memory

  /// Fills the sums. All threads call it, with kBytes of shared memory.
  __device__ void multiply(unsigned char* memory,
                           const Factor<kLeftByTerms>& left,
                           const Factor<kRightByTerms>& right) {
    const int64_t steps = (left.terms + kTerms - 1) / kTerms;
    const auto stage_of = [&](int64_t step) { return memory + step % kStages * kStageBytes; };
    const auto load = [&](int64_t step) {
      if (step < steps) {
        load_factor<kRows>(stage_of(step), left, step * kTerms);
        load_factor<kColumns>(stage_of(step) + kLeftBytes, right, step * kTerms);
      }
      commit_copies();
    };
    // At a step's barrier all threads have done the step before, but for products in the
    // background, which are those of two steps before.
    constexpr int kAhead = kStages - (kWarpgroups ? 2 : 1);
    for (int step = 0; step < kAhead; ++step) {
      load(step);
    }
    for (int64_t step = 0; step < steps; ++step) {
      wait_for_copies<kAhead - 1>();
      if constexpr (kWarpgroups) {
        publish_shared();
      }
      __syncthreads();
      load(step + kAhead);
      add_products(stage_of(step));
    }
    wait_for_copies<0>();
    if constexpr (kWarpgroups) {
      wait_for_products<0>(sums_);
    }
  }

  /// Calls f(row, column, sum, next sum) for each two neighbors of a row that this thread has.
  template <class F>
  __device__ void for_each_pair(const F& f) const {
    const int warp = thread_index() / kWarp, lane = thread_index() % kWarp;
    constexpr int kEights = kWarpgroups ? kColumns / kPiece : kWarpColumns / kPiece;
#pragma unroll
    for (int i = 0; i < kSums; i += 2) {
      const int of_tile = i / 4, row = i / 2 % 2 * 8 + lane / 4;
      const int column = of_tile % kEights * kPiece + lane % 4 * 2;
      if constexpr (kWarpgroups) {
        f(warp * 16 + row, column, sums_[i], sums_[i + 1]);
      } else {
        f(warp % 2 * kWarpRows + of_tile / kEights * 16 + row,
          warp / 2 * kWarpColumns + column,
          sums_[i],
          sums_[i + 1]);
      }
    }
  }

 private:
  // Of a warp, by mma.sync; by wgmma a warpgroup has 64 rows and all columns.
  static constexpr int kWarpRows = kRows / 2, kWarpColumns = kColumns / 4;
  static constexpr int kSums = kRows * kColumns / kThreads;

  // kCount rows of a factor in shared memory, panels of 64 columns: the terms, or the rows.
  template <int kCount, bool kByTerms>
  using Tile = std::conditional_t<kByTerms, PanelRows<kCount, kTerms>, PanelRows<kTerms, kCount>>;

  template <int kCount, bool kByTerms>
  __device__ static void load_factor(unsigned char* memory,
                                     const Factor<kByTerms>& factor,
                                     int64_t first_term) {
    const Tile<kCount, kByTerms> tile{memory};
    const auto* from = factor.memory;
    const int64_t stride = factor.stride;
    const auto left_of = [](int64_t count, int most) {
      return count < most ? static_cast<int>(count) : most;
    };
    const int terms = left_of(factor.terms - first_term, kTerms),
              rows = left_of(factor.rows, kCount);
    if constexpr (kByTerms) {
      tile.template load<kThreads>(kTerms, rows, [&](int term) {
        return term < terms ? from + (first_term + term) * stride : nullptr;
      });
    } else {
      tile.template load<kThreads>(kCount, terms, [&](int row) {
        return row < rows ? from + row * stride + first_term : nullptr;
      });
    }
  }

  __device__ void add_products(unsigned char* stage) {
    if constexpr (kWarpgroups) {
      add_by_warpgroups(stage);
    } else {
      add_by_warps(stage);
    }
  }

  __device__ void add_by_warps(unsigned char* stage) {
    constexpr int kRowTiles = kWarpRows / 16, kColumnTiles = kWarpColumns / kPiece;
    const Tile<kRows, kLeftByTerms> left{stage};
    const Tile<kColumns, kRightByTerms> right{stage + kLeftBytes};
    const int warp = thread_index() / kWarp;
    const int first_row = warp % 2 * kWarpRows, first_column = warp / 2 * kWarpColumns;
    auto& d = reinterpret_cast<float(&)[kRowTiles][kColumnTiles][4]>(sums_);
#pragma unroll 2
    for (int k = 0; k < kTerms / 16; ++k) {
      uint32_t of_left[kRowTiles][4];
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        const int row = first_row + 16 * m;
        if constexpr (kLeftByTerms) {
          load_a_transposed(of_left[m], left, 16 * k, row / kPiece);
        } else {
          load_a(of_left[m], left, row, 2 * k);
        }
      }
#pragma unroll
      for (int n = 0; n < kColumnTiles; n += 2) {
        uint32_t of_right[4];
        const int column = first_column + kPiece * n;
        if constexpr (kRightByTerms) {
          load_b_transposed(of_right, right, 16 * k, column / kPiece);
        } else {
          load_b(of_right, right, column, 2 * k);
        }
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
          multiply_add(d[m][n], of_left[m], of_right[0], of_right[1]);
          multiply_add(d[m][n + 1], of_left[m], of_right[2], of_right[3]);
        }
      }
    }
  }

  // The products are under way when it returns, those of the step before are done.
  __device__ void add_by_warpgroups(unsigned char* stage) {
    const int group = thread_index() / kWarpgroup;
    fence_registers(sums_);
#pragma unroll
    for (int k = 0; k < kTerms / 16; ++k) {
      warpgroup_multiply(sums_,
                         operand<kRows, kLeftByTerms>(stage, group * kWarpRows, k),
                         operand<kColumns, kRightByTerms>(stage + kLeftBytes, 0, k),
                         true);
    }
    commit_products();
    wait_for_products<1>();
  }

  // Terms [16 k, + 16) of a factor's rows from `row` on.
  template <int kCount, bool kByTerms>
  __device__ static SharedOperand<kByTerms> operand(unsigned char* memory, int row, int k) {
    const Tile<kCount, kByTerms> tile{memory};
    if constexpr (kByTerms) {
      return by_panels(tile, row / 64, k);
    } else {
      return by_rows(tile, row, k);
    }
  }

  float sums_[kSums] = {};
};

}  // namespace braid::cuda
