#pragma once
// The scores of an index, a query to a block: by wgmma on Hopper, else as heads meet keys
// (heads_and_keys.h). The indexer's choice (index_topk.cu) and its loss (indexer_kl.cu) share them.
#include "kernels/cuda/heads_and_keys.h"

namespace braid::cuda {

constexpr int kIndexWidth = 128;  // the most channels of an index by tensor cores

// A query of an index: q [I, H], the heads' weights, and the keys that it sees.
template <class E>
struct IndexQuery {
  const E* q;
  const float* weights;
  int64_t I;
  SeenKeys seen;
  Sequence<E> of;
};

// scores [keys]: the sum over the heads of weight relu(q key).
template <class Heads, class E>
__device__ void store_index_scores(Heads& heads, const IndexQuery<E>& query, float* scores) {
  const int64_t I = query.I, count = query.seen.count;
  for (int64_t group = 0; group < I; group += Heads::kHeads) {
    heads.load_heads(query.q, group, I);
    float weight[Heads::kHeadsOfThread];
    load_head_weights<Heads>(weight, query.weights, group, I);
    heads.for_each_tile(query.seen, query.of, 0, [&](int64_t first) {
      float z[Heads::kHeadsOfThread][Heads::kKeysOfThread], x[Heads::kKeysOfThread] = {};
      heads.products(z);
#pragma unroll
      for (int i = 0; i < Heads::kHeadsOfThread; ++i) {
#pragma unroll
        for (int j = 0; j < Heads::kKeysOfThread; ++j) {
          x[j] += weight[i] * (z[i][j] < 0 ? 0.0f : z[i][j]);  // NaN stays
        }
      }
      store_over_heads<Heads>(x, scores + first, count - first, group == 0);
    });
  }
}

// A warpgroup for which 64 keys are the rows of products and 64 heads their columns, so that a
// score is a sum over numbers of four threads.
class WarpgroupScores {
 public:
  using Element = Bfloat16;
  using Rows = RowPanels<kIndexWidth>;
  static constexpr int kThreads = kWarpgroup, kHeads = 64, kKeys = 64;

  static int bytes(int64_t /*H*/) { return 3 * Rows::kBytes; }
  __device__ WarpgroupScores(unsigned char* memory, int64_t H)
      : H_(static_cast<int>(H)), q_{memory}, keys_{memory + Rows::kBytes} {}

  /// As store_index_scores().
  __device__ void store(const IndexQuery<Bfloat16>& query, float* scores) const {
    const auto load = [&](int64_t tile) {
      copy_keys<kKeys, kThreads>(keys_of(tile), query.seen, query.of, tile * kKeys, H_);
    };
    const int64_t I = query.I, count = query.seen.count, tiles = (count + kKeys - 1) / kKeys;
    for (int64_t group = 0; group < I; group += kHeads) {
      copy_heads<kThreads>(q_, query.q + group * H_, I - group, H_);
      start_tiles(tiles, load);
      float weight[kHeadsOfThread];
#pragma unroll
      for (int i = 0; i < kHeadsOfThread; ++i) {
        const int64_t head = group + i / 2 * kPiece + TwoRows::lane() % 4 * 2 + i % 2;
        weight[i] = head < I ? query.weights[head] : 0.0f;
      }
      for (int64_t tile = 0; tile < tiles; ++tile) {
        await_tile(tile, tiles, load);
        publish_shared();
        __syncthreads();
        float z[2 * kHeadsOfThread];
        multiply(z, keys_of(tile));
        __syncthreads();  // the keys have been read, and with the last tile the heads
        add(z, weight, scores + tile * kKeys, count - tile * kKeys, group == 0);
      }
      wait_for_copies<0>();
    }
  }

 private:
  static constexpr int kHeadsOfThread = kHeads / 4;

  __device__ Rows keys_of(int64_t tile) const {
    return {keys_.memory + tile % 2 * Rows::kBytes};
  }
  __device__ void multiply(float (&z)[2 * kHeadsOfThread], const Rows& keys) const {
    fence_registers(z);
#pragma unroll
    for (int k = 0; k < kIndexWidth / 16; ++k) {
      warpgroup_multiply(z, by_rows(keys, 0, k), by_rows(q_, 0, k), k > 0);
    }
    commit_products();
    wait_for_products<0>(z);
  }
  // To the first `left` of a tile's scores, behind those of the heads before.
  __device__ static void add(const float (&z)[2 * kHeadsOfThread],
                             const float (&weight)[kHeadsOfThread],
                             float* scores,
                             int64_t left,
                             bool is_first) {
    float sum[2] = {};
#pragma unroll
    for (int v = 0; v < 2 * kHeadsOfThread; ++v) {
      sum[v / 2 % 2] += weight[v / 4 * 2 + v % 2] * (z[v] < 0 ? 0.0f : z[v]);  // NaN stays
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int key = TwoRows::row(i);
      sum[i] = row_sum(sum[i]);
      if (TwoRows::lane() % 4 == 0 && key < left) {
        scores[key] = (is_first ? 0.0f : scores[key]) + sum[i];
      }
    }
  }

  int H_;
  Rows q_, keys_;
};

__device__ inline void store_index_scores(WarpgroupScores& heads,
                                          const IndexQuery<Bfloat16>& query,
                                          float* scores) {
  heads.store(query, scores);
}

// Calls f(a null pointer to the class of heads) for an index with rows of E.
template <class E, class F>
void with_index_heads(int64_t width, bool whole, const F& f) {
  if constexpr (std::is_same_v<E, Bfloat16>) {
    if (whole && has_warpgroup_products() && calls_with<WarpgroupScores>(width, kIndexWidth, f)) {
      return;
    }
  }
  with_portable_heads<E, kIndexWidth>(width, whole, f);
}

}  // namespace braid::cuda
