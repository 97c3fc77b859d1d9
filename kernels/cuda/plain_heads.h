#pragma once
// Heads of a query against tiles of keys in float32, for what tensor cores do not take: a warp has
// a head, a lane a key of the tile or some channels. Attention (attention.cu) and the indexer's
// loss (indexer_kl.cu) share it.
#include "kernels/cuda/attention.h"

namespace braid::cuda {

constexpr int kPlainThreads = 256, kPlainHeads = kPlainThreads / kWarp, kPlainKeys = kWarp;
constexpr int kMostChannels = static_cast<int>(kCudaAttentionWidth);

// Shared memory of the plain kernels.
struct PlainMemory {
  int64_t H;
  float *keys, *q, *d, *weights, *slopes;

  __device__ PlainMemory(unsigned char* memory, int64_t channels, bool backward)
      : H(channels), keys(reinterpret_cast<float*>(memory)) {
    weights = keys + kPlainKeys * (H + 1);  // rows one number apart are in different banks
    slopes = weights + kPlainHeads * kPlainKeys;
    q = slopes + (backward ? kPlainHeads * kPlainKeys : 0);
    d = q + kPlainHeads * H;
  }
  static int bytes(int64_t H, bool backward) {
    const int64_t a_head = H + kPlainKeys;
    return static_cast<int>(sizeof(float) *
                            (kPlainKeys * (H + 1) + (backward ? 2 : 1) * kPlainHeads * a_head));
  }

  // The product of this warp's head in `rows` with this lane's key.
  __device__ float product(const float* rows) const {
    const float *row = rows + thread_index() / kWarp * H,
                *key = keys + thread_index() % kWarp * (H + 1);
    float sum = 0;
    for (int64_t c = 0; c < H; ++c) {
      sum += row[c] * key[c];
    }
    return sum;
  }

  // Row `head` of from [N, H] for this warp; zeros where there is none.
  template <class E>
  __device__ void load_head(float* rows, const E* from, int64_t head, int64_t N) const {
    for (int64_t c = thread_index() % kWarp; c < H; c += kWarp) {
      rows[thread_index() / kWarp * H + c] = head < N ? widened(from[head * H + c]) : 0.0f;
    }
  }

  template <class E>
  __device__ void load_keys(const SeenKeys& seen, const Sequence<E>& of, int64_t first) const {
    for (int row = thread_index() / kWarp; row < kPlainKeys; row += kPlainHeads) {
      const bool exists = first + row < seen.count;
      const E* from = exists ? seen.row(first + row, of.kv, of.compressed, H) : nullptr;
      for (int64_t c = thread_index() % kWarp; c < H; c += kWarp) {
        keys[row * (H + 1) + c] = exists ? widened(from[c]) : 0.0f;
      }
    }
  }
};

// A lane has every 32nd channel of the output.
constexpr int kChannelsOfLane = kMostChannels / kWarp;

// to[i] += sum_j weights[j] key_j at this lane's channels.
__device__ inline void add_keys(const PlainMemory& m,
                                const float* weights,
                                float (&to)[kChannelsOfLane]) {
#pragma unroll
  for (int i = 0; i < kChannelsOfLane; ++i) {
    const int64_t channel = thread_index() % kWarp + kWarp * i;
    if (channel < m.H) {
      for (int j = 0; j < kPlainKeys; ++j) {
        to[i] += weights[j] * m.keys[j * (m.H + 1) + channel];
      }
    }
  }
}

}  // namespace braid::cuda
