#pragma once
// Matrices of bfloat16 in shared memory, and how a warp gets the operands of its products from
// them.
#include "kernels/cuda/device.h"

namespace braid::cuda {

// Copies `rows` rows of H channels of at most kWidth; zeros beyond and where from_row(row) is null.
// By all of kThreads threads, in the background (copy_async).
template <int kThreads, int kWidth, class Tile, class FromRow>
__device__ inline void load_rows(const Tile& tile, int rows, int H, const FromRow& from_row) {
  constexpr int kPieces = kWidth / kPiece, kLanes = kPieces < kWarp ? kPieces : kWarp;
  for (int row = thread_index() / kLanes; row < rows; row += kThreads / kLanes) {
    const Bfloat16* from = from_row(row);
#pragma unroll
    for (int i = 0; i < kPieces / kLanes; ++i) {
      const int at = thread_index() % kLanes + kLanes * i;
      const bool valid = from != nullptr && at * kPiece < H;
      copy_async(tile.piece(row, at), valid ? from + at * kPiece : nullptr, valid);
    }
  }
}

// Rows of kWidth bfloat16 in shared memory, in pieces of 16 bytes whose places differ from row to
// row, so that ldmatrix finds eight rows in different banks.
template <int kWidth>
struct TileRows {
  unsigned char* memory;

  static constexpr int kRowBytes = kWidth * 2;
  __device__ unsigned char* piece(int row, int piece) const {
    return memory + row * kRowBytes + (piece / 8 * 8 + ((piece ^ row) & 7)) * 16;
  }
  template <int kThreads, class FromRow>
  __device__ void load(int rows, int H, const FromRow& from_row) const {
    load_rows<kThreads, kWidth>(*this, rows, H, from_row);
  }
};

// kRows rows of kWidth bfloat16 in panels of 64 columns, each of them TileRows<64>: as products of
// warpgroups read them (warpgroup.h).
template <int kWidth, int kRows>
struct PanelRows {
  unsigned char* memory;

  static constexpr int kPanelBytes = kRows * TileRows<64>::kRowBytes;
  static constexpr int kBytes = kWidth / 64 * kPanelBytes;
  __device__ TileRows<64> panel(int i) const { return {memory + i * kPanelBytes}; }
  __device__ unsigned char* piece(int row, int piece) const {
    return panel(piece / kPiece).piece(row, piece % kPiece);
  }
  template <int kThreads, class FromRow>
  __device__ void load(int rows, int H, const FromRow& from_row) const {
    load_rows<kThreads, kWidth>(*this, rows, H, from_row);
  }
};

// Tiles that come by in two places of shared memory, one copied while the other is used: load(tile)
// queues copies. Before the first one,
template <class Load>
__device__ inline void start_tiles(int64_t tiles, const Load& load) {
  if (tiles > 0) {
    load(0);
  }
  commit_copies();
}
// and before each, which is then there for the thread that copied it; behind its use, a barrier.
template <class Load>
__device__ inline void await_tile(int64_t tile, int64_t tiles, const Load& load) {
  if (tile + 1 < tiles) {
    load(tile + 1);
  }
  commit_copies();
  wait_for_copies<1>();
}

// Two neighbors of a row, rounded.
template <class Tile>
__device__ inline void store_pair(const Tile& tile, int row, int column, float a, float b) {
  *reinterpret_cast<uint32_t*>(tile.piece(row, column / kPiece) + column % kPiece * 2) =
      narrowed_pair(a, b);
}

// The operands of products, 16 x 16 at a time; `piece` counts eight columns of memory.
// a of rows [row, row + 16).
template <class Tile>
__device__ inline void load_a(uint32_t (&to)[4], const Tile& tile, int row, int piece) {
  const int lane = thread_index() % kWarp;
  load_matrices<false>(to, tile.piece(row + lane % 16, piece + lane / 16));
}
// a^T of rows [row, row + 16), which are a's columns.
template <class Tile>
__device__ inline void load_a_transposed(uint32_t (&to)[4], const Tile& tile, int row, int piece) {
  const int lane = thread_index() % kWarp;
  load_matrices<true>(to, tile.piece(row + lane % 8 + lane / 16 * 8, piece + lane / 8 % 2));
}
// b of two products: rows [row, row + 16) are the columns of the first (registers 0 and 1) and of
// the second (2 and 3).
template <class Tile>
__device__ inline void load_b(uint32_t (&to)[4], const Tile& tile, int row, int piece) {
  const int lane = thread_index() % kWarp;
  load_matrices<false>(to, tile.piece(row + lane % 8 + lane / 16 * 8, piece + lane / 8 % 2));
}
// b of two products from rows that are b's: the eight columns of `piece` and those behind them.
template <class Tile>
__device__ inline void load_b_transposed(uint32_t (&to)[4], const Tile& tile, int row, int piece) {
  const int lane = thread_index() % kWarp;
  load_matrices<true>(to, tile.piece(row + lane % 16, piece + lane / 16));
}

}  // namespace braid::cuda
