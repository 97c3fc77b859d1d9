#pragma once
// A query's heads against the keys that it sees, a tile at a time, for kernels that need the
// products and not only what attention makes of them: where rows are bfloat16 and whole pieces by
// wgmma (warpgroup_heads.h) or mma.sync (head_tiles.h), else in float32 (plain_heads.h). Such a
// kernel is written once, for a class of heads.
#include "kernels/cuda/head_tiles.h"
#include "kernels/cuda/plain_heads.h"
#include "kernels/cuda/warpgroup_heads.h"

namespace braid::cuda {

constexpr int kHeadsThreads = 256;
static_assert(kHeadsThreads == kTileThreads && kHeadsThreads == kPlainThreads);

// A thread has the products of kHeadsOfThread heads, head(i), with kKeysOfThread keys, key(j).
// Sums over a warp's heads or keys are in all of its threads; such a sum is one of kHeadParts (that
// of head_part()) or kKeyParts of a tile's, and the threads with leads_heads() or leads_keys() have
// one each.

template <class E>
class PlainHeads {
 public:
  using Element = E;
  static constexpr int kThreads = kHeadsThreads, kHeads = kPlainHeads, kKeys = kPlainKeys;
  static constexpr int kHeadsOfThread = 1, kKeysOfThread = 1;
  static constexpr int kHeadParts = kPlainHeads, kKeyParts = 1;
  struct Sums {
    float channels[kChannelsOfLane];
  };

  static int bytes(int64_t H) { return PlainMemory::bytes(H, /*backward=*/false); }
  __device__ PlainHeads(unsigned char* memory, int64_t H) : m_(memory, H, /*backward=*/false) {}

  __device__ static int head(int) { return thread_index() / kWarp; }
  __device__ static int key(int) { return thread_index() % kWarp; }
  __device__ static int head_part() { return thread_index() / kWarp; }
  __device__ static int key_part() { return 0; }
  __device__ static bool leads_heads() { return true; }
  __device__ static bool leads_keys() { return thread_index() % kWarp == 0; }
  __device__ static float over_heads(float x) { return x; }
  __device__ static float over_keys(float x) { return warp_sum(x); }
  __device__ static float largest_over_keys(float x) { return warp_largest(x); }

  // Heads [first, first + kHeads) of rows [N, H].
  __device__ void load_heads(const E* rows, int64_t first, int64_t N) {
    __syncthreads();  // what is of the heads before has been read
    m_.load_head(m_.q, rows, first + head(0), N);
  }
  // Calls f(first) with each tile of the keys from `first` on, between barriers.
  template <class F>
  __device__ void for_each_tile(const SeenKeys& seen,
                                const Sequence<E>& of,
                                int64_t first,
                                const F& f) {
    for (; first < seen.count; first += kKeys) {
      __syncthreads();  // the keys before have been read
      m_.load_keys(seen, of, first);
      __syncthreads();
      f(first);
    }
  }
  __device__ void products(float (&z)[1][1]) const { z[0][0] = m_.product(m_.q); }

  // weights [heads, keys] of the tile, for the two functions behind a barrier.
  __device__ void store_weights(const float (&weights)[1][1]) const {
    m_.weights[head(0) * kKeys + key(0)] = weights[0][0];
  }
  __device__ void add_keys_to(Sums& sums, int64_t /*left*/) const {
    add_keys(m_, m_.weights + head(0) * kKeys, sums.channels);
  }
  __device__ void add_heads_to(float* slots, int64_t left, bool is_first) const {
    const int64_t numbers = (left < kKeys ? left : kKeys) * m_.H;
    for (int64_t i = thread_index(); i < numbers; i += kHeadsThreads) {
      float added = is_first ? 0.0f : slots[i];
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        added += m_.weights[h * kKeys + i / m_.H] * m_.q[h * m_.H + i % m_.H];
      }
      slots[i] = added;
    }
  }
  __device__ void store(const Sums& sums, E* rows, int64_t first, int64_t N) const {
#pragma unroll
    for (int i = 0; i < kChannelsOfLane; ++i) {
      const int64_t channel = thread_index() % kWarp + kWarp * i;
      if (first + head(0) < N && channel < m_.H) {
        rows[(first + head(0)) * m_.H + channel] = narrowed<E>(sums.channels[i]);
      }
    }
  }

 private:
  PlainMemory m_;
};

// What the two classes of heads by tensor cores share: warp w has 16 heads (w % 4) and half of a
// tile's keys (w / 4).
template <int kWidth, class Rows_, class Weights_>
class TileHeads {
 public:
  using Element = Bfloat16;
  using Rows = Rows_;        // of kHeads heads, or kKeys keys
  using Weights = Weights_;  // [kHeads, kKeys]
  static constexpr int kThreads = kTileThreads, kHeads = kTileHeads, kKeys = 64;
  static constexpr int kEights = kKeys / 2 / kPiece;
  static constexpr int kHeadsOfThread = 2, kKeysOfThread = 2 * kEights;
  static constexpr int kHeadParts = kRowTiles, kKeyParts = 2;

  static int bytes(int64_t /*H*/) { return 3 * kRowsBytes + Weights::kBytes; }

  __device__ static int head(int i) { return TwoRows::row(i); }
  __device__ static int key(int j) {
    return kKeys / 2 * key_part() + j / 2 * kPiece + TwoRows::lane() % 4 * 2 + j % 2;
  }
  __device__ static int head_part() { return thread_index() / kWarp % kRowTiles; }
  __device__ static int key_part() { return TwoRows::half(); }
  __device__ static bool leads_heads() { return TwoRows::lane() / 4 == 0; }
  __device__ static bool leads_keys() { return TwoRows::lane() % 4 == 0; }
  __device__ static float over_heads(float x) {
#pragma unroll
    for (int step = 4; step < kWarp; step *= 2) {
      x += __shfl_xor_sync(kAllLanes, x, step);
    }
    return x;
  }
  __device__ static float over_keys(float x) {
    return row_sum(x);
  }
  __device__ static float largest_over_keys(float x) {
    return row_largest(x);
  }

  __device__ void load_heads(const Bfloat16* rows, int64_t first, int64_t N) {
    __syncthreads();  // what is of the heads before has been read
    heads_ = N - first < kHeads ? static_cast<int>(N - first) : kHeads;
    copy_heads(q_, rows + first * H_, heads_, H_);
  }
  template <class F>
  __device__ void for_each_tile(const SeenKeys& seen,
                                const Sequence<Bfloat16>& of,
                                int64_t first,
                                const F& f) {
    const auto load = [&](int64_t tile) {
      copy_keys<kKeys>(tile_of(tile), seen, of, first + tile * kKeys, H_);
    };
    const int64_t tiles = (seen.count - first + kKeys - 1) / kKeys;
    start_tiles(tiles, load);
    for (int64_t tile = 0; tile < tiles; ++tile) {
      await_tile(tile, tiles, load);
      publish_shared();
      __syncthreads();
      now_ = tile_of(tile);
      f(first + tile * kKeys);
      __syncthreads();  // the keys have been read
    }
    wait_for_copies<0>();
  }
  __device__ void store_weights(const float (&weights)[kHeadsOfThread][kKeysOfThread]) const {
#pragma unroll
    for (int i = 0; i < kHeadsOfThread; ++i) {
#pragma unroll
      for (int j = 0; j < kKeysOfThread; j += 2) {
        store_pair(weights_, head(i), key(j), weights[i][j], weights[i][j + 1]);
      }
    }
    publish_shared();
  }

 protected:
  static constexpr int kRowsBytes = kHeads * kWidth * 2;

  __device__ TileHeads(unsigned char* memory, int64_t H)
      : H_(static_cast<int>(H)),
        q_{memory},
        keys_{memory + kRowsBytes},
        now_(keys_),
        weights_{memory + 3 * kRowsBytes} {}

  __device__ int row_tiles() const {
    return (heads_ + 15) / 16;
  }
  __device__ Rows tile_of(int64_t tile) const {
    return {keys_.memory + tile % 2 * kRowsBytes};
  }
  // Of two heads, their products with keys.
  __device__ static void unpack(const float (&d)[kEights][4],
                                float (&z)[kHeadsOfThread][kKeysOfThread]) {
#pragma unroll
    for (int j = 0; j < kKeysOfThread; ++j) {
      z[0][j] = d[j / 2][j % 2];
      z[1][j] = d[j / 2][2 + j % 2];
    }
  }

  int H_, heads_ = 0;
  Rows q_, keys_, now_;
  Weights weights_;
};

// By mma.sync.
template <int kWidth>
class TensorHeads : public TileHeads<kWidth, TileRows<kWidth>, HeadWeights<64>> {
  using Base = TileHeads<kWidth, TileRows<kWidth>, HeadWeights<64>>;
  using Base::H_, Base::heads_, Base::now_, Base::q_, Base::row_tiles, Base::weights_;

 public:
  using Base::kEights, Base::kHeadsOfThread, Base::kKeys, Base::kKeysOfThread;
  struct Sums {
    float products[kRowTiles][kWidth / kPiece / kTileWarps][4];
  };

  __device__ TensorHeads(unsigned char* memory, int64_t H) : Base(memory, H) {}

  __device__ void products(float (&z)[kHeadsOfThread][kKeysOfThread]) const {
    float d[kEights][4] = {};
    if (Base::head_part() < row_tiles()) {
      multiply_by_keys<kEights / 2>(
          d, q_, Base::head_part(), now_, kKeys / 2 * Base::key_part(), H_);
    }
    Base::unpack(d, z);
  }
  __device__ void add_keys_to(Sums& sums, int64_t left) const {
    for (int k = 0; k < kKeys / 16; ++k) {
      if (16 * k < left) {
        add_weighted_keys(sums.products, weights_, now_, k, row_tiles(), H_);
      }
    }
  }
  __device__ void add_heads_to(float* slots, int64_t left, bool is_first) const {
    add_to_slots(slots, left, is_first, row_tiles(), H_, HeadTerm<kKeys, kWidth>{weights_, q_});
  }
  __device__ void store(const Sums& sums, Bfloat16* rows, int64_t first, int64_t /*N*/) const {
    store_heads(sums.products, rows + first * H_, heads_, H_, [](int) { return 1.0f; });
  }
};

// By wgmma, for Hopper.
template <int kWidth>
class WarpgroupHeads : public TileHeads<kWidth, RowPanels<kWidth>, WeightPanels> {
  using Base = TileHeads<kWidth, RowPanels<kWidth>, WeightPanels>;
  using Base::H_, Base::heads_, Base::now_, Base::q_, Base::weights_;

 public:
  using Base::kHeadsOfThread, Base::kKeysOfThread;
  struct Sums {
    float products[kChannelsOfThread<kWidth>];
  };

  __device__ WarpgroupHeads(unsigned char* memory, int64_t H) : Base(memory, H) {}

  __device__ void products(float (&z)[kHeadsOfThread][kKeysOfThread]) const {
    float d[kScoresOfThread];
    fence_registers(d);
    multiply_by_keys<kWidth>(d, q_, now_);
    commit_products();
    wait_for_products<0>(d);
    Base::unpack(eights_of(d), z);
  }
  __device__ void add_keys_to(Sums& sums, int64_t /*left*/) const {
    fence_registers(sums.products);
    add_weighted_keys<kWidth>(sums.products, weights_, now_);
    commit_products();
    wait_for_products<0>(sums.products);
  }
  __device__ void add_heads_to(float* slots, int64_t left, bool is_first) const {
    constexpr int kPanels = kWidth / 64 / 2;
    for (int part = 0; part < kPanels; part += kPanelsOfPart<kWidth>) {
      const int panel = first_panel<kWidth>() + part;
      float d[kPartSums<kWidth>];
      fence_registers(d);
      multiply_heads(d, panel, PanelTerm<kWidth>{weights_, q_});
      commit_products();
      wait_for_products<0>(d);
      add_to_slots(d, panel, slots, left, is_first, H_);
    }
  }
  __device__ void store(const Sums& sums, Bfloat16* rows, int64_t first, int64_t /*N*/) const {
    store_heads(sums.products, rows + first * H_, heads_, H_, {1.0f, 1.0f});
  }
};

// Writes the sums over heads of x [keys of a tile] to the first `left` of to [keys], behind those
// of the heads before. Two calls have a barrier between them.
template <class Heads>
__device__ void store_over_heads(const float (&x)[Heads::kKeysOfThread],
                                 float* to,
                                 int64_t left,
                                 bool is_first) {
  BRAID_SHARED(float[Heads::kHeadParts][Heads::kKeys], parts);
#pragma unroll
  for (int j = 0; j < Heads::kKeysOfThread; ++j) {
    const float sum = Heads::over_heads(x[j]);
    if (Heads::leads_heads()) {
      parts[Heads::head_part()][Heads::key(j)] = sum;
    }
  }
  __syncthreads();
  const int key = thread_index();
  if (key < Heads::kKeys && key < left) {
    float sum = is_first ? 0.0f : to[key];
#pragma unroll
    for (int part = 0; part < Heads::kHeadParts; ++part) {
      sum += parts[part][key];
    }
    to[key] = sum;
  }
}

// The weights of the thread's heads, 0 where there are none.
template <class Heads>
__device__ inline void load_head_weights(float (&to)[Heads::kHeadsOfThread],
                                         const float* weight,
                                         int64_t group,
                                         int64_t I) {
#pragma unroll
  for (int i = 0; i < Heads::kHeadsOfThread; ++i) {
    const int64_t head = group + Heads::head(i);
    to[i] = head < I ? weight[head] : 0.0f;
  }
}

// Calls f(a null pointer to the class) if it takes rows of this width and a block has the memory.
template <class Heads, class F>
bool calls_with(int64_t width, int most, const F& f) {
  const bool fits = width <= most && Heads::bytes(width) <= most_shared_bytes();
  if (fits) {
    f(static_cast<Heads*>(nullptr));
  }
  return fits;
}
// Calls f(a null pointer to the class of heads) for rows of E: for any chip,
template <class E, int kMostWidth, class F>
void with_portable_heads(int64_t width, bool whole, const F& f) {
  if constexpr (std::is_same_v<E, Bfloat16>) {
    if (whole && (calls_with<TensorHeads<128>>(width, 128, f) ||
                  calls_with<TensorHeads<kMostWidth>>(width, kMostWidth, f))) {
      return;
    }
  }
  f(static_cast<PlainHeads<E>*>(nullptr));
}
// and for the one that is there.
template <class E, int kMostWidth, class F>
void with_heads(int64_t width, bool whole, const F& f) {
  if constexpr (std::is_same_v<E, Bfloat16>) {
    if (whole && has_warpgroup_products() &&
        (calls_with<WarpgroupHeads<128>>(width, 128, f) ||
         calls_with<WarpgroupHeads<kMostWidth>>(width, kMostWidth, f))) {
      return;
    }
  }
  with_portable_heads<E, kMostWidth>(width, whole, f);
}

}  // namespace braid::cuda
