#pragma once
// 64 heads of a query against tiles of keys by tensor cores, a block of 256 threads at a time: what
// attention (attention_mma.cu, attention_warpgroup.cu) and the indexer's loss (indexer_kl.cu)
// share. Rows of heads and keys are bfloat16 in shared memory.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/matrix_tiles.h"

namespace braid::cuda {

constexpr int kTileThreads = 256, kTileWarps = kTileThreads / kWarp;
constexpr int kTileHeads = 64;              // of a block at a time
constexpr int kRowTiles = kTileHeads / 16;  // of a product's 16 rows

// Queues copies of a query's first heads [heads, H]; zeros beyond.
template <int kThreads = kTileThreads, class Tile>
__device__ inline void copy_heads(const Tile& tile, const Bfloat16* rows, int64_t heads, int H) {
  tile.template load<kThreads>(
      kTileHeads, H, [&](int i) { return i < heads ? rows + i * H : nullptr; });
}
// Queues copies of the keys [first, + kKeys) that a query sees; zeros beyond.
template <int kKeys, int kThreads = kTileThreads, class Tile>
__device__ inline void copy_keys(
    const Tile& tile, const SeenKeys& seen, const Sequence<Bfloat16>& of, int64_t first, int H) {
  tile.template load<kThreads>(kKeys, H, [&](int i) -> const Bfloat16* {
    return first + i < seen.count ? seen.row(first + i, of.kv, of.compressed, H) : nullptr;
  });
}

// Weights [kTileHeads, kKeys] as bfloat16. Rows are 16 bytes more than a power of two apart, for
// the banks.
template <int kKeys>
struct HeadWeights {
  unsigned char* memory;

  static constexpr int kRowBytes = kKeys * 2 + 16, kBytes = kTileHeads * kRowBytes;
  __device__ unsigned char* piece(int row, int piece) const {
    return memory + row * kRowBytes + piece * 16;
  }
};

// Of a warp: heads [16 row_tile, + 16) times keys [first_key, + 16 kPairs), over the channels.
template <int kPairs, int kWidth>
__device__ inline void multiply_by_keys(float (&d)[2 * kPairs][4],
                                        const TileRows<kWidth>& heads,
                                        int row_tile,
                                        const TileRows<kWidth>& keys,
                                        int first_key,
                                        int H) {
#pragma unroll 4
  for (int k = 0; k < kWidth / 16; ++k) {
    if (k * 16 >= H) {
      break;
    }
    uint32_t a[4];
    load_a(a, heads, row_tile * 16, 2 * k);
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) {
      uint32_t b[4];
      load_b(b, keys, first_key + 16 * pair, 2 * k);
      multiply_add(d[2 * pair], a, b[0], b[1]);
      multiply_add(d[2 * pair + 1], a, b[2], b[3]);
    }
  }
}

// Of a warp: all heads' weights of keys [16 k, + 16) times these keys' channels of the warp.
template <int kTiles, int kKeys, int kWidth>
__device__ inline void add_weighted_keys(float (&d)[kRowTiles][kTiles][4],
                                         const HeadWeights<kKeys>& weights,
                                         const TileRows<kWidth>& keys,
                                         int k,
                                         int row_tiles,
                                         int H) {
  const int first_piece = thread_index() / kWarp * kTiles;
  uint32_t a[kRowTiles][4];
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
    if (m < row_tiles) {
      load_a(a[m], weights, 16 * m, 2 * k);
    }
  }
#pragma unroll
  for (int n = 0; n < kTiles; n += 2) {
    if ((first_piece + n) * kPiece < H) {
      uint32_t b[4];
      load_b_transposed(b, keys, 16 * k, first_piece + n);
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        if (m < row_tiles) {
          multiply_add(d[m][n], a[m], b[0], b[1]);
          multiply_add(d[m][n + 1], a[m], b[2], b[3]);
        }
      }
    }
  }
}

// Stores d's rows, those of heads [0, heads) with H channels each, times factor(row).
template <int kTiles, class Factor>
__device__ inline void store_heads(
    const float (&d)[kRowTiles][kTiles][4], Bfloat16* to, int heads, int H, const Factor& factor) {
  const int lane = thread_index() % kWarp, warp = thread_index() / kWarp;
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = 16 * m + 8 * half + lane / 4;
      if (row < heads) {
        const float f = factor(row);
#pragma unroll
        for (int n = 0; n < kTiles; ++n) {
          const int channel = (warp * kTiles + n) * kPiece + lane % 4 * 2;
          if (channel < H) {
            *reinterpret_cast<uint32_t*>(to + row * H + channel) =
                narrowed_pair(f * d[m][n][2 * half], f * d[m][n][2 * half + 1]);
          }
        }
      }
    }
  }
}

// Over the four lanes that have a row of scores.
__device__ inline float row_largest(float x) {
  x = larger(x, __shfl_xor_sync(kAllLanes, x, 1));
  return larger(x, __shfl_xor_sync(kAllLanes, x, 2));
}
__device__ inline float row_sum(float x) {
  x += __shfl_xor_sync(kAllLanes, x, 1);
  return x + __shfl_xor_sync(kAllLanes, x, 2);
}

constexpr float kLog2E = 1.44269504f;

// The part of [kTileHeads, keys of a tile] that a thread has, as products leave it: half of the
// keys of row(0) and row(1). Number 4 j + 2 r + c is that of row(r) and of key c, from
// 2 (lane % 4) on, of the j-th eight.
struct TwoRows {
  __device__ static int lane() { return thread_index() % kWarp; }
  __device__ static int half() { return thread_index() / kWarp / kRowTiles; }
  __device__ static int row(int i) {
    return thread_index() / kWarp % kRowTiles * 16 + lane() / 4 + 8 * i;
  }
};

// The softmax of a query's heads over keys that come in tiles of 64. Scores are in units of log 2.
class RunningSoftmax : public TwoRows {
 public:
  static constexpr int kKeys = 64, kEights = kKeys / 2 / kPiece;

  // Of `heads` heads with these sinks. The largest score and the sum begin as the sink's, which the
  // first of the lanes that have the row counts. of_halves [2, kTileHeads] is shared.
  __device__ RunningSoftmax(const float* sink, int heads, float* of_halves)
      : heads_(heads), of_halves_(of_halves) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      largest_[i] = row(i) < heads ? kLog2E * sink[row(i)] : 0.0f;
      sum_[i] = half() == 0 && lane() % 4 == 0 ? 1.0f : 0.0f;
    }
  }

  /// Whether this thread has a number of its rows that both halves have.
  __device__ static bool leads() {
    return half() == 0 && lane() % 4 == 0;
  }

  // Weights, rounded, of a tile with `left` keys, and by what earlier sums shrink. A barrier is
  // within; another one must follow before weights are read.
  template <class Tile>
  __device__ void add(float (&scores)[kEights][4],
                      float unit,
                      int64_t left,
                      const Tile& weights,
                      float (&shrink)[2]) {
    const int first = half() * (kKeys / 2) + lane() % 4 * 2;
    float top[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int j = 0; j < kEights; ++j) {
#pragma unroll
      for (int v = 0; v < 4; ++v) {
        const bool sees = first + j * kPiece + v % 2 < left;
        scores[j][v] = sees ? unit * scores[j][v] : -INFINITY;
        top[v / 2] = larger(top[v / 2], scores[j][v]);
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      top[i] = row_largest(top[i]);
      if (lane() % 4 == 0) {
        of_halves_[half() * kTileHeads + row(i)] = top[i];
      }
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float of_other = of_halves_[(1 - half()) * kTileHeads + row(i)];
      const float now = larger(largest_[i], larger(top[i], of_other));
      shrink[i] = exp2f(largest_[i] - now);
      largest_[i] = now;
      sum_[i] *= shrink[i];
#pragma unroll
      for (int j = 0; j < kEights; ++j) {
        const float a = exp2f(scores[j][2 * i] - now), b = exp2f(scores[j][2 * i + 1] - now);
        sum_[i] += a + b;
        store_pair(weights, row(i), first + j * kPiece, a, b);
      }
    }
  }

  // 1 / the sums over all keys, whose logarithms go to log_sum [heads]. A barrier is within.
  __device__ void finish(float* log_sum, float (&inverse)[2]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      sum_[i] = row_sum(sum_[i]);
      if (lane() % 4 == 0) {
        of_halves_[half() * kTileHeads + row(i)] = sum_[i];
      }
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float total = of_halves_[row(i)] + of_halves_[kTileHeads + row(i)];
      inverse[i] = 1.0f / total;
      if (leads() && row(i) < heads_) {
        log_sum[row(i)] = (largest_[i] + log2f(total)) / kLog2E;
      }
    }
  }

 private:
  int heads_;
  float* of_halves_;
  float largest_[2], sum_[2];
};

// The gradients of that softmax, whose sums are known, over keys in tiles of kKeys.
template <int kKeys>
class SoftmaxGradient : public TwoRows {
 public:
  static constexpr int kEights = kKeys / 2 / kPiece;

  // Of `heads` heads with these logarithms of sums and means of their weights' gradients, as far as
  // attention's results were rounded.
  __device__ SoftmaxGradient(const float* log_sum, const float* mean, int heads) : heads_(heads) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      log_sum_[i] = row(i) < heads ? kLog2E * log_sum[row(i)] : 0.0f;
      mean_[i] = row(i) < heads ? mean[row(i)] : 0.0f;
    }
  }

  // Of a tile with `left` keys: scores (q k) become the weights again, and the gradients of weights
  // those of scores, the slopes; both are stored rounded. A barrier must follow before they are
  // read.
  template <class Tile>
  __device__ void add(float (&scores)[kEights][4],
                      float (&dweights)[kEights][4],
                      float scale,
                      int64_t left,
                      const Tile& weights,
                      const Tile& slopes) {
    const int first = half() * (kKeys / 2) + lane() % 4 * 2;
#pragma unroll
    for (int j = 0; j < kEights; ++j) {
#pragma unroll
      for (int v = 0; v < 4; ++v) {
        const bool sees = row(v / 2) < heads_ && first + j * kPiece + v % 2 < left;
        const float weight = sees ? exp2f(scale * kLog2E * scores[j][v] - log_sum_[v / 2]) : 0.0f;
        scores[j][v] = weight;
        sum_[v / 2] += weight * dweights[j][v];
        dweights[j][v] = scale * weight * (dweights[j][v] - mean_[v / 2]);
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        store_pair(weights, row(i), first + j * kPiece, scores[j][2 * i], scores[j][2 * i + 1]);
        store_pair(slopes, row(i), first + j * kPiece, dweights[j][2 * i], dweights[j][2 * i + 1]);
      }
    }
  }

  // The sums over all keys of weights times their gradients, to mean [heads]. A barrier is within;
  // of_halves [2, kTileHeads] is shared.
  __device__ void finish(float* mean, float* of_halves) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      sum_[i] = row_sum(sum_[i]);
      if (lane() % 4 == 0) {
        of_halves[half() * kTileHeads + row(i)] = sum_[i];
      }
    }
    __syncthreads();
    if (thread_index() < heads_) {
      mean[thread_index()] = of_halves[thread_index()] + of_halves[kTileHeads + thread_index()];
    }
  }

 private:
  int heads_;
  float log_sum_[2], mean_[2], sum_[2] = {};
};

// Adds two neighbors to a slot, whose first ones they may be.
__device__ inline void add_pair(float* slot, bool is_first, float a, float b) {
  auto* pair = reinterpret_cast<float2*>(slot);
  const float2 before = is_first ? float2{0, 0} : *pair;
  *pair = {before.x + a, before.y + b};
}

// Weights of a tile's keys, and the rows of the heads that have them.
template <int kKeys, int kWidth>
struct HeadTerm {
  HeadWeights<kKeys> weights;
  TileRows<kWidth> heads;
};

// What a query's heads add to the gradients of a tile's keys: the sum of weights^T heads over the
// terms, of all keys and the warp's channels. They go into the query's slots, behind those of the
// heads before.
template <int kKeys, int kWidth, class... Terms>
__device__ inline void add_to_slots(float* slots,
                                    int64_t count,
                                    bool is_first,
                                    int row_tiles,
                                    int H,
                                    const HeadTerm<kKeys, kWidth>& first,
                                    const Terms&... others) {
  constexpr int kTiles = kWidth / kPiece / kTileWarps, kPart = kTiles < 4 ? kTiles : 4;
  constexpr int kKeyTiles = kKeys / 16;
  const int lane = thread_index() % kWarp;
#pragma unroll 1
  for (int part = 0; part < kTiles; part += kPart) {
    const int first_piece = thread_index() / kWarp * kTiles + part;
    if (first_piece * kPiece >= H) {
      continue;
    }
    float d[kKeyTiles][kPart][4] = {};
    const auto add = [&](const HeadTerm<kKeys, kWidth>& term, int k) {
      uint32_t a[kKeyTiles][4];
#pragma unroll
      for (int m = 0; m < kKeyTiles; ++m) {
        load_a_transposed(a[m], term.weights, 16 * k, 2 * m);
      }
#pragma unroll
      for (int n = 0; n < kPart; n += 2) {
        uint32_t b[4];
        load_b_transposed(b, term.heads, 16 * k, first_piece + n);
#pragma unroll
        for (int m = 0; m < kKeyTiles; ++m) {
          multiply_add(d[m][n], a[m], b[0], b[1]);
          multiply_add(d[m][n + 1], a[m], b[2], b[3]);
        }
      }
    };
#pragma unroll 1
    for (int k = 0; k < row_tiles; ++k) {
      add(first, k);
      (add(others, k), ...);
    }
#pragma unroll
    for (int m = 0; m < kKeyTiles; ++m) {
#pragma unroll
      for (int n = 0; n < kPart; ++n) {
        const int channel = (first_piece + n) * kPiece + lane % 4 * 2;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int key = 16 * m + 8 * half + lane / 4;
          if (key < count && channel < H) {
            add_pair(slots + key * H + channel, is_first, d[m][n][2 * half], d[m][n][2 * half + 1]);
          }
        }
      }
    }
  }
}

}  // namespace braid::cuda
