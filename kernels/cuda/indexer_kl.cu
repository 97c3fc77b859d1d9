// The loss of an indexer, for a chunk of queries in four steps, a query to a block: what share of
// their weights the attention's heads give to each entry; the index's scores; the divergence of the
// two and its gradient by each score; the gradients of queries, weights and keys. Heads meet keys
// in tiles: by mma.sync (head_tiles.h) where rows are bfloat16 and whole pieces, else in float32
// (plain_heads.h). The steps are the same for both.
#include "kernels/cuda/best_scores.h"
#include "kernels/cuda/head_tiles.h"
#include "kernels/cuda/plain_heads.h"
#include "kernels/cuda/tables.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = 256;
constexpr float kNever = -1e30f;  // a logit that never counts
static_assert(kThreads == kTileThreads && kThreads == kPlainThreads && kThreads == kChoiceThreads);

// ---- Heads against a tile of keys ----
//
// A thread has the products of kHeadsOfThread heads, head(i), with kKeysOfThread keys, key(j).
// Sums over a warp's heads or keys are in all of its threads; such a sum is one of kHeadParts (that
// of head_part()) or kKeyParts of a tile's, and the threads with leads_heads() or leads_keys() have
// one each.

template <class E>
class PlainHeads {
 public:
  using Element = E;
  static constexpr int kHeads = kPlainHeads, kKeys = kPlainKeys;
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
    for (int64_t i = thread_index(); i < numbers; i += kThreads) {
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

// Warp w has 16 heads (w % 4) and half of a tile's keys (w / 4).
template <int kWidth>
class TensorHeads {
 public:
  using Element = Bfloat16;
  static constexpr int kHeads = kTileHeads, kKeys = 64, kPairs = kKeys / 32;
  static constexpr int kHeadsOfThread = 2, kKeysOfThread = 4 * kPairs;
  static constexpr int kHeadParts = kRowTiles, kKeyParts = 2;
  struct Sums {
    float products[kRowTiles][kWidth / kPiece / kTileWarps][4];
  };

  static int bytes(int64_t /*H*/) {
    return (kHeads + 2 * kKeys) * TileRows<kWidth>::kRowBytes + HeadWeights<kKeys>::kBytes;
  }
  __device__ TensorHeads(unsigned char* memory, int64_t H)
      : H_(static_cast<int>(H)),
        q_{memory},
        keys_{memory + kHeads * TileRows<kWidth>::kRowBytes},
        now_(keys_),
        weights_{keys_.memory + 2 * kKeys * TileRows<kWidth>::kRowBytes} {}

  __device__ static int head(int i) { return 16 * head_part() + lane() / 4 + 8 * i; }
  __device__ static int key(int j) {
    return kKeys / 2 * key_part() + j / 2 * kPiece + lane() % 4 * 2 + j % 2;
  }
  __device__ static int head_part() { return thread_index() / kWarp % kRowTiles; }
  __device__ static int key_part() { return thread_index() / kWarp / kRowTiles; }
  __device__ static bool leads_heads() { return lane() / 4 == 0; }
  __device__ static bool leads_keys() { return lane() % 4 == 0; }
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
    q_.template load<kThreads>(
        kHeads, H_, [&](int i) { return i < heads_ ? rows + (first + i) * H_ : nullptr; });
  }
  template <class F>
  __device__ void for_each_tile(const SeenKeys& seen,
                                const Sequence<Bfloat16>& of,
                                int64_t first,
                                const F& f) {
    const auto load = [&](int64_t tile) {
      tile_of(tile).template load<kThreads>(kKeys, H_, [&](int i) -> const Bfloat16* {
        const int64_t key = first + tile * kKeys + i;
        return key < seen.count ? seen.row(key, of.kv, of.compressed, H_) : nullptr;
      });
    };
    const int64_t tiles = (seen.count - first + kKeys - 1) / kKeys;
    if (tiles > 0) {
      load(0);
    }
    commit_copies();
    for (int64_t tile = 0; tile < tiles; ++tile) {
      if (tile + 1 < tiles) {
        load(tile + 1);
      }
      commit_copies();
      wait_for_copies<1>();
      __syncthreads();
      now_ = tile_of(tile);
      f(first + tile * kKeys);
      __syncthreads();  // the keys have been read
    }
    wait_for_copies<0>();
  }
  __device__ void products(float (&z)[kHeadsOfThread][kKeysOfThread]) const {
    float d[2 * kPairs][4] = {};
    if (head_part() < row_tiles()) {
      multiply_by_keys<kPairs>(d, q_, head_part(), now_, kKeys / 2 * key_part(), H_);
    }
#pragma unroll
    for (int j = 0; j < kKeysOfThread; ++j) {
      z[0][j] = d[j / 2][j % 2];
      z[1][j] = d[j / 2][2 + j % 2];
    }
  }

  __device__ void store_weights(const float (&weights)[kHeadsOfThread][kKeysOfThread]) const {
#pragma unroll
    for (int i = 0; i < kHeadsOfThread; ++i) {
#pragma unroll
      for (int j = 0; j < kKeysOfThread; j += 2) {
        store_pair(weights_, head(i), key(j), weights[i][j], weights[i][j + 1]);
      }
    }
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

 private:
  __device__ static int lane() {
    return thread_index() % kWarp;
  }
  __device__ int row_tiles() const {
    return (heads_ + 15) / 16;
  }
  __device__ TileRows<kWidth> tile_of(int64_t tile) const {
    return {keys_.memory + tile % 2 * kKeys * TileRows<kWidth>::kRowBytes};
  }

  int H_, heads_ = 0;
  TileRows<kWidth> q_, keys_, now_;
  HeadWeights<kKeys> weights_;
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

// ---- The four steps ----

// The entries alone, as keys of the index.
template <class E>
__host__ __device__ AttentionKeys index_keys(const IndexerKlArguments<E>& p) {
  const AttentionKeys& keys = p.teacher.keys;
  return {keys.entry_first,  // a window in which there is nothing
          keys.entry_first,
          keys.entry_first,
          keys.entry_end,
          keys.chosen,
          keys.B,
          keys.S,
          p.I,
          0,
          keys.C,
          keys.K};
}

// shares [queries, slots]: the sum over heads of e^(z - log of the head's sum), up to a factor of
// each query that keeps the largest from underflowing.
template <class Heads>
__global__ void __launch_bounds__(kThreads, 1)
    kl_target_kernel(AttentionProblem<float> p, IndexerKlWork work, int64_t first_query) {
  using E = typename Heads::Element;
  BRAID_DYNAMIC_SHARED(memory);
  BRAID_SHARED(float[Heads::kKeyParts][Heads::kHeads][3], of_parts);  // largest, sum, of entries
  Heads heads(memory, p.H);
  const int64_t query = first_query + blockIdx.x, N = p.keys.N;
  const SeenKeys seen(p.keys, query);
  const Sequence<E> of(p, query);
  const E* rows = reinterpret_cast<const E*>(p.q) + query * N * p.H;
  float* log_sums = work.log_sums + blockIdx.x * N;
  float share = kNever;  // the largest one of an entry, as a logarithm
  for (int64_t group = 0; group < N; group += Heads::kHeads) {
    heads.load_heads(rows, group, N);
    float largest[Heads::kHeadsOfThread], sum[Heads::kHeadsOfThread] = {};
    float of_entries[Heads::kHeadsOfThread];
#pragma unroll
    for (int i = 0; i < Heads::kHeadsOfThread; ++i) {
      largest[i] = of_entries[i] = kNever;
    }
    heads.for_each_tile(seen, of, 0, [&](int64_t first) {
      float z[Heads::kHeadsOfThread][Heads::kKeysOfThread];
      heads.products(z);
#pragma unroll
      for (int i = 0; i < Heads::kHeadsOfThread; ++i) {
        float top = largest[i];
#pragma unroll
        for (int j = 0; j < Heads::kKeysOfThread; ++j) {
          const int64_t key = first + Heads::key(j);
          z[i][j] = key < seen.count ? p.scale * z[i][j] : -INFINITY;
          top = larger(top, z[i][j]);
          of_entries[i] = key >= seen.raw ? larger(of_entries[i], z[i][j]) : of_entries[i];
        }
        sum[i] *= expf(largest[i] - top);
        largest[i] = top;
#pragma unroll
        for (int j = 0; j < Heads::kKeysOfThread; ++j) {
          sum[i] += expf(z[i][j] - top);
        }
      }
    });
#pragma unroll
    for (int i = 0; i < Heads::kHeadsOfThread; ++i) {
      const float top = Heads::largest_over_keys(largest[i]);
      const float all = Heads::over_keys(sum[i] * expf(largest[i] - top));
      const float entry = Heads::largest_over_keys(of_entries[i]);
      if (Heads::leads_keys()) {
        float* part = of_parts[Heads::key_part()][Heads::head(i)];
        part[0] = top;
        part[1] = all;
        part[2] = entry;
      }
    }
    __syncthreads();
    const int64_t head = group + thread_index();
    if (thread_index() < Heads::kHeads && head < N) {
      float top = p.sink[head], entry = kNever;
      for (int part = 0; part < Heads::kKeyParts; ++part) {
        top = larger(top, of_parts[part][thread_index()][0]);
        entry = larger(entry, of_parts[part][thread_index()][2]);
      }
      float all = expf(p.sink[head] - top);
      for (int part = 0; part < Heads::kKeyParts; ++part) {
        const float* numbers = of_parts[part][thread_index()];
        all += numbers[1] * expf(numbers[0] - top);
      }
      log_sums[head] = top + logf(all);
      share = larger(share, entry - log_sums[head]);
    }
  }
  share = block_largest<kThreads>(share);  // and from here on all see the sums
  for (int64_t group = 0; group < N; group += Heads::kHeads) {
    heads.load_heads(rows, group, N);
    float shift[Heads::kHeadsOfThread];
#pragma unroll
    for (int i = 0; i < Heads::kHeadsOfThread; ++i) {
      const int64_t head = group + Heads::head(i);
      shift[i] = head < N ? log_sums[head] + share : INFINITY;
    }
    heads.for_each_tile(seen, of, seen.raw, [&](int64_t first) {
      float z[Heads::kHeadsOfThread][Heads::kKeysOfThread], x[Heads::kKeysOfThread] = {};
      heads.products(z);
#pragma unroll
      for (int i = 0; i < Heads::kHeadsOfThread; ++i) {
#pragma unroll
        for (int j = 0; j < Heads::kKeysOfThread; ++j) {
          x[j] += expf(p.scale * z[i][j] - shift[i]);
        }
      }
      float* shares = work.shares + blockIdx.x * work.slots + first - seen.raw;
      store_over_heads<Heads>(x, shares, seen.count - first, group == 0);
    });
  }
}

// The weights of the thread's heads, 0 where there are none.
template <class Heads>
__device__ void load_head_weights(float (&to)[Heads::kHeadsOfThread],
                                  const float* weight,
                                  int64_t group,
                                  int64_t I) {
#pragma unroll
  for (int i = 0; i < Heads::kHeadsOfThread; ++i) {
    const int64_t head = group + Heads::head(i);
    to[i] = head < I ? weight[head] : 0.0f;
  }
}

// scores [queries, slots]
template <class Heads>
__global__ void __launch_bounds__(kThreads)
    kl_scores_kernel(IndexerKlArguments<typename Heads::Element> p,
                     IndexerKlWork work,
                     int64_t first_query) {
  using E = typename Heads::Element;
  BRAID_DYNAMIC_SHARED(memory);
  Heads heads(memory, p.h);
  const int64_t query = first_query + blockIdx.x;
  const AttentionKeys keys = index_keys(p);
  const SeenKeys seen(keys, query);
  const Sequence<E> of(keys, p.keys, p.h, query);
  for (int64_t group = 0; group < p.I; group += Heads::kHeads) {
    heads.load_heads(p.q + query * p.I * p.h, group, p.I);
    float weight[Heads::kHeadsOfThread];
    load_head_weights<Heads>(weight, p.weight + query * p.I, group, p.I);
    heads.for_each_tile(seen, of, 0, [&](int64_t first) {
      float z[Heads::kHeadsOfThread][Heads::kKeysOfThread], x[Heads::kKeysOfThread] = {};
      heads.products(z);
#pragma unroll
      for (int i = 0; i < Heads::kHeadsOfThread; ++i) {
#pragma unroll
        for (int j = 0; j < Heads::kKeysOfThread; ++j) {
          x[j] += weight[i] * (z[i][j] < 0 ? 0.0f : z[i][j]);  // NaN stays
        }
      }
      float* scores = work.scores + blockIdx.x * work.slots + first;
      store_over_heads<Heads>(x, scores, seen.count - first, group == 0);
    });
  }
}

// kl and recall; scores become their gradients.
__global__ void __launch_bounds__(kThreads, 4) kl_divergence_kernel(AttentionKeys keys,
                                                                    IndexerKlWork work,
                                                                    int64_t first_query,
                                                                    int64_t recalled,
                                                                    float* kl,
                                                                    float* recall) {
  const int64_t query = first_query + blockIdx.x, count = SeenKeys(keys, query).count;
  const float* shares = work.shares + blockIdx.x * work.slots;
  float* scores = work.scores + blockIdx.x * work.slots;
  if (count == 0) {  // the whole block
    if (thread_index() == 0) {
      kl[query] = 0;
      recall[query] = -1;
    }
    return;
  }
  float top = -INFINITY;
  for (int64_t j = thread_index(); j < count; j += kThreads) {
    top = larger(top, scores[j]);
  }
  top = block_largest<kThreads>(top);
  float sums[2] = {};  // of shares, and of e^score
  for (int64_t j = thread_index(); j < count; j += kThreads) {
    sums[0] += shares[j];
    sums[1] += expf(scores[j] - top);
  }
  block_sums<kThreads>(sums);
  float found = 0;
  if (recalled > 0 && count > recalled) {
    choose_best(scores, 0, count, recalled, [&](int64_t j, int64_t) { found += shares[j]; });
    found = block_sum<kThreads>(found);
  } else {
    found = -sums[0];
  }
  const float log_shares = logf(sums[0]), log_scores = top + logf(sums[1]);
  float divergence = 0;
  for (int64_t j = thread_index(); j < count; j += kThreads) {
    const float share = shares[j], p = share / sums[0], log_q = scores[j] - log_scores;
    divergence += share > 0 ? p * (logf(share) - log_shares - log_q) : 0.0f;
    scores[j] = expf(log_q) - p;
  }
  divergence = block_sum<kThreads>(divergence);
  if (thread_index() == 0) {
    kl[query] = divergence;
    recall[query] = found / sums[0];
  }
}

// The gradients of the scores, in their place, become those of what they are made of.
template <class Heads>
__global__ void __launch_bounds__(kThreads, 2)
    kl_gradient_kernel(IndexerKlArguments<typename Heads::Element> p,
                       IndexerKlOutputs<typename Heads::Element> r,
                       IndexerKlWork work,
                       int64_t first_query) {
  using E = typename Heads::Element;
  BRAID_DYNAMIC_SHARED(memory);
  BRAID_SHARED(float[Heads::kKeyParts][Heads::kHeads], of_parts);
  Heads heads(memory, p.h);
  const int64_t query = first_query + blockIdx.x;
  const AttentionKeys keys = index_keys(p);
  const SeenKeys seen(keys, query);
  const Sequence<E> of(keys, p.keys, p.h, query);
  const float* dscores = work.scores + blockIdx.x * work.slots;
  for (int64_t group = 0; group < p.I; group += Heads::kHeads) {
    heads.load_heads(p.q + query * p.I * p.h, group, p.I);
    float weight[Heads::kHeadsOfThread], dweight[Heads::kHeadsOfThread] = {};
    load_head_weights<Heads>(weight, p.weight + query * p.I, group, p.I);
    typename Heads::Sums dq = {};
    heads.for_each_tile(seen, of, 0, [&](int64_t first) {
      float z[Heads::kHeadsOfThread][Heads::kKeysOfThread];
      heads.products(z);
#pragma unroll
      for (int j = 0; j < Heads::kKeysOfThread; ++j) {
        const int64_t key = first + Heads::key(j);
        const float dscore = key < seen.count ? dscores[key] : 0.0f;
#pragma unroll
        for (int i = 0; i < Heads::kHeadsOfThread; ++i) {
          const bool is_positive = z[i][j] > 0;
          dweight[i] += is_positive ? dscore * z[i][j] : 0.0f;
          z[i][j] = is_positive ? dscore * weight[i] : 0.0f;
        }
      }
      heads.store_weights(z);
      __syncthreads();
      heads.add_keys_to(dq, seen.count - first);
      float* slots = work.added + (blockIdx.x * work.slots + first) * p.h;
      heads.add_heads_to(slots, seen.count - first, group == 0);
    });
    heads.store(dq, r.dq + query * p.I * p.h, group, p.I);
#pragma unroll
    for (int i = 0; i < Heads::kHeadsOfThread; ++i) {
      const float sum = Heads::over_keys(dweight[i]);
      if (Heads::leads_keys()) {
        of_parts[Heads::key_part()][Heads::head(i)] = sum;
      }
    }
    __syncthreads();
    const int64_t head = group + thread_index();
    if (thread_index() < Heads::kHeads && head < p.I) {
      float sum = 0;
      for (int part = 0; part < Heads::kKeyParts; ++part) {
        sum += of_parts[part][thread_index()];
      }
      r.dweight[query * p.I + head] = sum;
    }
  }
}

// ---- Launches ----

// Calls f(a null pointer to the class of heads) for rows of E.
template <class E, int kMostWidth, class F>
void with_heads(int64_t width, bool whole, const F& f) {
  const auto fits = [](auto* heads) {
    return std::remove_pointer_t<decltype(heads)>::bytes(0) <= most_shared_bytes();
  };
  if constexpr (std::is_same_v<E, Bfloat16>) {
    using Narrow = TensorHeads<128>;
    using Wide = TensorHeads<kMostWidth>;
    if (whole && width <= 128 && fits(static_cast<Narrow*>(nullptr))) {
      return f(static_cast<Narrow*>(nullptr));
    }
    if (whole && width <= kMostWidth && fits(static_cast<Wide*>(nullptr))) {
      return f(static_cast<Wide*>(nullptr));
    }
  }
  f(static_cast<PlainHeads<E>*>(nullptr));
}

template <class E>
void queue_target(const AttentionProblem<float>& p,
                  const IndexerKlWork& work,
                  int64_t first,
                  int64_t count,
                  void* stream) {
  with_heads<E, kMostChannels>(p.H, are_whole(p.H, p.q, p.kv, p.compressed), [&](auto* heads) {
    using Heads = std::remove_pointer_t<decltype(heads)>;
    launch_with_shared(kl_target_kernel<Heads>,
                       blocks_of(count, 1),
                       kThreads,
                       Heads::bytes(p.H),
                       stream,
                       p,
                       work,
                       first);
  });
}

template <class E>
void indexer_kl(const IndexerKlArguments<E>& p,
                const IndexerKlOutputs<E>& r,
                const IndexerKlWork& work,
                void* stream) {
  require(has_indexer_kl(p.teacher.H, p.h),
          "[indexer_kl] no kernel for ",
          p.teacher.H,
          " and ",
          p.h,
          " channels; there are some for ",
          kCudaAttentionWidth);
  const auto keys = index_keys(p);
  const int64_t queries = keys.B * keys.S;
  for (int64_t first = 0; first < queries; first += work.queries) {
    const int64_t count = queries - first < work.queries ? queries - first : work.queries;
    if (p.teacher.bf16) {
      queue_target<Bfloat16>(p.teacher, work, first, count, stream);
    } else {
      queue_target<float>(p.teacher, work, first, count, stream);
    }
    with_heads<E, 128>(p.h, are_whole(p.h, p.q, p.keys, r.dq), [&](auto* heads) {
      using Heads = std::remove_pointer_t<decltype(heads)>;
      const auto blocks = blocks_of(count, 1);
      const int bytes = Heads::bytes(p.h);
      launch_with_shared(kl_scores_kernel<Heads>, blocks, kThreads, bytes, stream, p, work, first);
      launch(kl_divergence_kernel,
             blocks,
             kThreads,
             stream,
             keys,
             work,
             first,
             p.recalled,
             r.kl,
             r.recall);
      if (r.dq != nullptr) {
        launch_with_shared(
            kl_gradient_kernel<Heads>, blocks, kThreads, bytes, stream, p, r, work, first);
        add_slots_to_keys(
            keys, p.h, {work.added, work.slots, first, count}, {nullptr, r.dkeys}, stream);
      }
    });
  }
}

}  // namespace

void add_indexer_kl(CudaKernels& table) {
  table.float32.indexer_kl = indexer_kl<float>;
  table.bfloat16.indexer_kl = indexer_kl<Bfloat16>;
}

}  // namespace braid::cuda
