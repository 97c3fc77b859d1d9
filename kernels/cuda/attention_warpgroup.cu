// Attention by wgmma, for Hopper: 64 heads of a query at a time, whose tile of keys is in shared
// memory once, as keys and as values. Two warpgroups have half of a tile's keys each where heads
// meet keys, and half of the channels where weights meet rows.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/head_tiles.h"
#include "kernels/cuda/warpgroup.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = kTileThreads, kHeads = kTileHeads, kKeys = RunningSoftmax::kKeys;
constexpr int kWidth = static_cast<int>(kCudaAttentionWidth);
constexpr int kPanels = kWidth / 64, kPanelsOfGroup = kPanels / 2;
constexpr int kSums = kWidth / 2 / 2;   // of a thread: 64 heads x 256 channels
constexpr int kScores = kKeys / 2 / 2;  // of a thread: 64 heads x half of the keys
static_assert(kThreads == 2 * kWarpgroup && kHeads == 64 && kKeys == 64);

using Problem = AttentionProblem<float>;
using Results = AttentionResults<float>;
using Gradients = AttentionGradients<float>;
using Heads = PanelRows<kWidth, kHeads>;
using Keys = PanelRows<kWidth, kKeys>;
using Weights = PanelRows<kKeys, kHeads>;

constexpr int kHalvesBytes = 2 * kHeads * static_cast<int>(sizeof(float));
constexpr int kForwardBytes = Heads::kBytes + 2 * Keys::kBytes + Weights::kBytes + kHalvesBytes;
constexpr int kBackwardBytes =
    2 * Heads::kBytes + Keys::kBytes + 2 * Weights::kBytes + kHalvesBytes;

__device__ inline int group_of_warps() {
  return thread_index() / kWarpgroup;
}

// Queues the products of the heads with the warpgroup's keys, over the channels.
__device__ inline void multiply_by_keys(float (&d)[kScores], const Heads& heads, const Keys& keys) {
#pragma unroll
  for (int k = 0; k < kWidth / 16; ++k) {
    const int first_key = group_of_warps() * (kKeys / 2);
    warpgroup_multiply(d, by_rows(heads, 0, k), by_rows(keys, first_key, k), k > 0);
  }
}
// The same numbers, as softmaxes take them.
__device__ inline auto eights_of(float (&d)[kScores]) -> float (&)[kScores / 4][4] {
  return reinterpret_cast<float(&)[kScores / 4][4]>(d);
}

// Queues the products of all heads' weights with the keys' channels of the warpgroup.
__device__ inline void add_weighted_keys(float (&d)[kSums],
                                         const Weights& weights,
                                         const Keys& keys) {
#pragma unroll
  for (int k = 0; k < kKeys / 16; ++k) {
    const int first_panel = group_of_warps() * kPanelsOfGroup;
    warpgroup_multiply(d, by_rows(weights, 0, k), by_panels(keys, first_panel, k), true);
  }
}

// Stores those sums, of heads [0, heads) with H channels each, times their factors.
__device__ inline void store_heads(
    const float (&d)[kSums], Bfloat16* to, int heads, int H, const float (&factors)[2]) {
#pragma unroll
  for (int v = 0; v < kSums; v += 2) {
    const int row = TwoRows::row(v / 2 % 2);
    const int channel = group_of_warps() * (kWidth / 2) + v / 4 * kPiece + TwoRows::lane() % 4 * 2;
    if (row < heads && channel < H) {
      const float factor = factors[v / 2 % 2];
      *reinterpret_cast<uint32_t*>(to + row * H + channel) =
          narrowed_pair(factor * d[v], factor * d[v + 1]);
    }
  }
}

__global__ void __launch_bounds__(kThreads, 1)
    attention_warpgroup_forward_kernel(Problem p, Results r) {
  if constexpr (!kHasWarpgroupProducts) {
    return;
  }
  BRAID_DYNAMIC_SHARED(memory);
  const Heads q{memory};
  const Keys all_keys{q.memory + Heads::kBytes};
  const Weights weights{all_keys.memory + 2 * Keys::kBytes};
  auto* of_halves = reinterpret_cast<float*>(weights.memory + Weights::kBytes);  // [2, heads]
  const int64_t query = blockIdx.x, first_head = int64_t{blockIdx.y} * kHeads, N = p.keys.N;
  const int H = static_cast<int>(p.H);
  const int64_t first_row = query * N + first_head;
  const int heads = N - first_head < kHeads ? static_cast<int>(N - first_head) : kHeads;
  const SeenKeys seen(p.keys, query);
  const Sequence<Bfloat16> of(p, query);
  const auto keys_of = [&](int64_t tile) {
    return Keys{all_keys.memory + tile % 2 * Keys::kBytes};
  };
  const auto load_keys = [&](int64_t tile) {
    copy_keys<kKeys>(keys_of(tile), seen, of, tile * kKeys, H);
  };
  copy_heads(q, reinterpret_cast<const Bfloat16*>(p.q) + first_row * H, heads, H);
  const int64_t tiles = (seen.count + kKeys - 1) / kKeys;
  start_tiles(tiles, load_keys);

  RunningSoftmax softmax(p.sink + first_head, heads, of_halves);
  float out[kSums] = {};
  for (int64_t tile = 0; tile < tiles; ++tile) {
    await_tile(tile, tiles, load_keys);
    publish_shared();
    __syncthreads();
    const Keys keys = keys_of(tile);

    // 1. Scores of the warpgroup's keys and weights, and by what earlier sums shrink.
    float scores[kScores], shrink[2];
    fence_registers(scores);
    multiply_by_keys(scores, q, keys);
    commit_products();
    wait_for_products<0>(scores);
    softmax.add(eights_of(scores), p.scale * kLog2E, seen.count - tile * kKeys, weights, shrink);
#pragma unroll
    for (int v = 0; v < kSums; ++v) {
      out[v] *= shrink[v / 2 % 2];
    }
    publish_shared();
    __syncthreads();

    // 2. The output: weights times the warpgroup's channels.
    fence_registers(out);
    add_weighted_keys(out, weights, keys);
    commit_products();
    wait_for_products<0>(out);
    __syncthreads();  // keys and weights have been read
  }
  wait_for_copies<0>();

  float inverse[2];
  softmax.finish(r.log_sum + first_row, inverse);
  store_heads(out, reinterpret_cast<Bfloat16*>(r.o) + first_row * H, heads, H, inverse);
}

// ---- Backward ----

// What a query's heads add to the gradients of a tile's keys: two panels of channels at a time.
constexpr int kPanelsOfPart = 2, kPartSums = kPanelsOfPart * 64 / 2;

// Queues the products weights^T dout + slopes^T q, of all keys and a part's panels.
__device__ inline void multiply_heads(float (&d)[kPartSums],
                                      int panel,
                                      const Weights& weights,
                                      const Heads& dout,
                                      const Weights& slopes,
                                      const Heads& q) {
#pragma unroll
  for (int k = 0; k < kHeads / 16; ++k) {
    warpgroup_multiply(d, by_panels(weights, 0, k), by_panels(dout, panel, k), k > 0);
    warpgroup_multiply(d, by_panels(slopes, 0, k), by_panels(q, panel, k), true);
  }
}

// They go into the slots of `count` keys, behind those of the heads before.
__device__ inline void add_to_slots(
    const float (&d)[kPartSums], int panel, float* slots, int64_t count, bool is_first, int H) {
#pragma unroll
  for (int v = 0; v < kPartSums; v += 2) {
    const int key = TwoRows::row(v / 2 % 2);
    const int channel = panel * 64 + v / 4 * kPiece + TwoRows::lane() % 4 * 2;
    if (key < count && channel < H) {
      add_pair(slots + key * H + channel, is_first, d[v], d[v + 1]);
    }
  }
}

// One tile of keys, for dout stands beside q: the next one is copied once the query's gradient has
// read it, while the keys' gradients are made, which do not.
__global__ void __launch_bounds__(kThreads, 1) attention_warpgroup_backward_kernel(
    Problem p, const float* log_sum, Gradients g, AttentionWork work, int64_t first_query) {
  if constexpr (!kHasWarpgroupProducts) {
    return;
  }
  BRAID_DYNAMIC_SHARED(memory);
  const Heads q{memory}, dout{q.memory + Heads::kBytes};
  const Keys keys{dout.memory + Heads::kBytes};
  const Weights weights{keys.memory + Keys::kBytes}, slopes{weights.memory + Weights::kBytes};
  auto* of_halves = reinterpret_cast<float*>(slopes.memory + Weights::kBytes);  // [2, heads]
  const int64_t query = first_query + blockIdx.x, N = p.keys.N;
  const int H = static_cast<int>(p.H);
  const SeenKeys seen(p.keys, query);
  const Sequence<Bfloat16> of(p, query);
  const auto load_keys = [&](int64_t first) {
    if (first < seen.count) {
      copy_keys<kKeys>(keys, seen, of, first, H);
    }
    commit_copies();
  };
  for (int64_t first_head = 0; first_head < N; first_head += kHeads) {
    const int heads = N - first_head < kHeads ? static_cast<int>(N - first_head) : kHeads;
    const int64_t first_row = query * N + first_head;
    copy_heads(q, reinterpret_cast<const Bfloat16*>(p.q) + first_row * H, heads, H);
    copy_heads(dout, reinterpret_cast<const Bfloat16*>(g.dout) + first_row * H, heads, H);
    load_keys(0);
    SoftmaxGradient<kKeys> softmax(log_sum + first_row, work.mean + first_row, heads);
    float dq[kSums] = {};
    for (int64_t first = 0; first < seen.count; first += kKeys) {
      wait_for_copies<0>();
      publish_shared();
      __syncthreads();
      const int64_t left = seen.count - first;

      // 1. Weights again, and the gradients of the products q k.
      float scores[kScores], dweights[kScores];
      fence_registers(scores, dweights);
      multiply_by_keys(scores, q, keys);
      multiply_by_keys(dweights, dout, keys);
      commit_products();
      wait_for_products<0>(scores, dweights);
      softmax.add(eights_of(scores), eights_of(dweights), p.scale, left, weights, slopes);
      publish_shared();
      __syncthreads();

      // 2. The query's gradient, and what it adds to those of the keys.
      float* slots = work.added + (blockIdx.x * work.slots + first) * H;
      const int first_panel = group_of_warps() * kPanelsOfGroup;
      float dkeys[kPartSums];
      fence_registers(dq, dkeys);
      add_weighted_keys(dq, slopes, keys);
      commit_products();
      multiply_heads(dkeys, first_panel, weights, dout, slopes, q);
      commit_products();
      wait_for_products<1>(dq);
      __syncthreads();  // the keys have been read
      load_keys(first + kKeys);
      wait_for_products<0>(dkeys);
      add_to_slots(dkeys, first_panel, slots, left, first_head == 0, H);
#pragma unroll
      for (int part = 1; part < kPanelsOfGroup / kPanelsOfPart; ++part) {
        const int panel = first_panel + part * kPanelsOfPart;
        fence_registers(dkeys);
        multiply_heads(dkeys, panel, weights, dout, slopes, q);
        commit_products();
        wait_for_products<0>(dkeys);
        add_to_slots(dkeys, panel, slots, left, first_head == 0, H);
      }
    }
    wait_for_copies<0>();
    softmax.finish(work.mean + first_row, of_halves);  // and the heads have been read
    store_heads(dq, reinterpret_cast<Bfloat16*>(g.dq) + first_row * H, heads, H, {1.0f, 1.0f});
  }
}

// Whether these kernels take rows of the problem, in so much shared memory.
bool takes(const Problem& p, int bytes, const uint8_t* dout = nullptr) {
  constexpr int kNarrow = 128;  // for which attention_mma.cu has smaller tiles
  return has_warpgroup_products() && are_whole(p.H, p.q, p.kv, p.compressed, dout) &&
         p.H > kNarrow && bytes <= most_shared_bytes();
}

}  // namespace

bool attention_warpgroup_forward(const Problem& p, const Results& r, void* stream) {
  if (!takes(p, kForwardBytes)) {
    return false;
  }
  launch_with_shared(attention_warpgroup_forward_kernel,
                     {blocks_of(p.keys.B * p.keys.S, 1), blocks_of(p.keys.N, kHeads)},
                     kThreads,
                     kForwardBytes,
                     stream,
                     p,
                     r);
  return true;
}

bool attention_warpgroup_backward(const Problem& p,
                                  const Results& r,
                                  const Gradients& g,
                                  const AttentionWork& work,
                                  int64_t first,
                                  int64_t count,
                                  void* stream) {
  if (!takes(p, kBackwardBytes, g.dout)) {
    return false;
  }
  launch_with_shared(attention_warpgroup_backward_kernel,
                     blocks_of(count, 1),
                     kThreads,
                     kBackwardBytes,
                     stream,
                     p,
                     r.log_sum,
                     g,
                     work,
                     first);
  return true;
}

}  // namespace braid::cuda
