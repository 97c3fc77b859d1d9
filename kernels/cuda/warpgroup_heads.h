#pragma once
// 64 heads of a query against tiles of 64 keys by wgmma, for Hopper: what attention
// (attention_warpgroup.cu) and the indexer's loss (indexer_kl.cu) share. Of two warpgroups each has
// half of a tile's keys where heads meet keys, and half of the channels where weights meet rows.
#include "kernels/cuda/head_tiles.h"
#include "kernels/cuda/warpgroup.h"

namespace braid::cuda {

static_assert(kTileThreads == 2 * kWarpgroup && kTileHeads == 64 && RunningSoftmax::kKeys == 64);

// Heads or keys of a tile, and the heads' weights of its keys.
template <int kWidth>
using RowPanels = PanelRows<kWidth, 64>;
using WeightPanels = PanelRows<64, 64>;

// Numbers of a thread: 64 heads by half of the keys, and by half of the channels.
constexpr int kScoresOfThread = 64 / 2 / 2;
template <int kWidth>
constexpr int kChannelsOfThread = kWidth / 2 / 2;

__device__ inline int warpgroup_index() {
  return thread_index() / kWarpgroup;
}
// The first panel of the warpgroup's channels.
template <int kWidth>
__device__ inline int first_panel() {
  return warpgroup_index() * (kWidth / 64 / 2);
}

// Queues the products of the heads with the warpgroup's keys, over the channels.
template <int kWidth>
__device__ inline void multiply_by_keys(float (&d)[kScoresOfThread],
                                        const RowPanels<kWidth>& heads,
                                        const RowPanels<kWidth>& keys) {
#pragma unroll
  for (int k = 0; k < kWidth / 16; ++k) {
    const int first_key = warpgroup_index() * (64 / 2);
    warpgroup_multiply(d, by_rows(heads, 0, k), by_rows(keys, first_key, k), k > 0);
  }
}
// The same numbers, in eights of keys.
__device__ inline auto eights_of(float (&d)[kScoresOfThread]) -> float (&)[kScoresOfThread / 4][4] {
  return reinterpret_cast<float(&)[kScoresOfThread / 4][4]>(d);
}

// Queues the products of all heads' weights with the keys' channels of the warpgroup.
template <int kWidth>
__device__ inline void add_weighted_keys(float (&d)[kChannelsOfThread<kWidth>],
                                         const WeightPanels& weights,
                                         const RowPanels<kWidth>& keys) {
#pragma unroll
  for (int k = 0; k < 64 / 16; ++k) {
    warpgroup_multiply(d, by_rows(weights, 0, k), by_panels(keys, first_panel<kWidth>(), k), true);
  }
}

// Stores those sums, of heads [0, heads) with H channels each, times their factors.
template <int kSums>
__device__ inline void store_heads(
    const float (&d)[kSums], Bfloat16* to, int heads, int H, const float (&factors)[2]) {
#pragma unroll
  for (int v = 0; v < kSums; v += 2) {
    const int row = TwoRows::row(v / 2 % 2);
    const int channel = warpgroup_index() * (2 * kSums) + v / 4 * kPiece + TwoRows::lane() % 4 * 2;
    if (row < heads && channel < H) {
      const float factor = factors[v / 2 % 2];
      *reinterpret_cast<uint32_t*>(to + row * H + channel) =
          narrowed_pair(factor * d[v], factor * d[v + 1]);
    }
  }
}

// ---- What a query's heads add to the gradients of a tile's keys, some panels at a time ----

template <int kWidth>
constexpr int kPanelsOfPart = kWidth < 256 ? kWidth / 64 / 2 : 2;
template <int kWidth>
constexpr int kPartSums = kPanelsOfPart<kWidth> * 64 / 2;

// Weights of a tile's keys, and the rows of the heads that have them.
template <int kWidth>
struct PanelTerm {
  WeightPanels weights;
  RowPanels<kWidth> heads;
};

// Queues the products weights^T heads of the terms, of all keys and a part's panels.
template <int kWidth, class... Terms>
__device__ inline void multiply_heads(float (&d)[kPartSums<kWidth>],
                                      int panel,
                                      const PanelTerm<kWidth>& first,
                                      const Terms&... others) {
  const auto multiply = [&](const PanelTerm<kWidth>& term, int k, bool adds) {
    warpgroup_multiply(d, by_panels(term.weights, 0, k), by_panels(term.heads, panel, k), adds);
  };
#pragma unroll
  for (int k = 0; k < 64 / 16; ++k) {
    multiply(first, k, k > 0);
    (multiply(others, k, true), ...);
  }
}

// They go into the slots of `count` keys, behind those of the heads before.
template <int kSums>
__device__ inline void add_to_slots(
    const float (&d)[kSums], int panel, float* slots, int64_t count, bool is_first, int H) {
#pragma unroll
  for (int v = 0; v < kSums; v += 2) {
    const int key = TwoRows::row(v / 2 % 2);
    const int channel = panel * 64 + v / 4 * kPiece + TwoRows::lane() % 4 * 2;
    if (key < count && channel < H) {
      add_pair(slots + key * H + channel, is_first, d[v], d[v + 1]);
    }
  }
}

}  // namespace braid::cuda
