// Attention by wgmma, for Hopper: 64 heads of a query at a time, whose tile of keys is in shared
// memory once, as keys and as values.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/warpgroup_heads.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = kTileThreads, kHeads = kTileHeads, kKeys = RunningSoftmax::kKeys;
constexpr int kWidth = static_cast<int>(kCudaAttentionWidth);
constexpr int kSums = kChannelsOfThread<kWidth>;

using Problem = AttentionProblem<float>;
using Results = AttentionResults<float>;
using Gradients = AttentionGradients<float>;
using Rows = RowPanels<kWidth>;

constexpr int kHalvesBytes = 2 * kHeads * static_cast<int>(sizeof(float));
constexpr int kForwardBytes = 3 * Rows::kBytes + WeightPanels::kBytes + kHalvesBytes;
constexpr int kBackwardBytes = 3 * Rows::kBytes + 2 * WeightPanels::kBytes + kHalvesBytes;

__global__ void __launch_bounds__(kThreads, 1)
    attention_warpgroup_forward_kernel(Problem p, Results r) {
  if constexpr (!kHasWarpgroupProducts) {
    return;
  }
  BRAID_DYNAMIC_SHARED(memory);
  const Rows q{memory};
  const Rows all_keys{q.memory + Rows::kBytes};
  const WeightPanels weights{all_keys.memory + 2 * Rows::kBytes};
  auto* of_halves = reinterpret_cast<float*>(weights.memory + WeightPanels::kBytes);  // [2, heads]
  const int64_t query = blockIdx.x, first_head = int64_t{blockIdx.y} * kHeads, N = p.keys.N;
  const int H = static_cast<int>(p.H);
  const int64_t first_row = query * N + first_head;
  const int heads = N - first_head < kHeads ? static_cast<int>(N - first_head) : kHeads;
  const SeenKeys seen(p.keys, query);
  const Sequence<Bfloat16> of(p, query);
  const auto keys_of = [&](int64_t tile) {
    return Rows{all_keys.memory + tile % 2 * Rows::kBytes};
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
    const Rows keys = keys_of(tile);

    // 1. Scores of the warpgroup's keys and weights, and by what earlier sums shrink.
    float scores[kScoresOfThread], shrink[2];
    fence_registers(scores);
    multiply_by_keys<kWidth>(scores, q, keys);
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
    add_weighted_keys<kWidth>(out, weights, keys);
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

// One tile of keys, for dout stands beside q: the next one is copied once the query's gradient has
// read it, while the keys' gradients are made, which do not.
__global__ void __launch_bounds__(kThreads, 1) attention_warpgroup_backward_kernel(
    Problem p, const float* log_sum, Gradients g, AttentionWork work, int64_t first_query) {
  if constexpr (!kHasWarpgroupProducts) {
    return;
  }
  BRAID_DYNAMIC_SHARED(memory);
  const Rows q{memory}, dout{q.memory + Rows::kBytes};
  const Rows keys{dout.memory + Rows::kBytes};
  const WeightPanels weights{keys.memory + Rows::kBytes},
      slopes{weights.memory + WeightPanels::kBytes};
  auto* of_halves = reinterpret_cast<float*>(slopes.memory + WeightPanels::kBytes);  // [2, heads]
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
      float scores[kScoresOfThread], dweights[kScoresOfThread];
      fence_registers(scores, dweights);
      multiply_by_keys<kWidth>(scores, q, keys);
      multiply_by_keys<kWidth>(dweights, dout, keys);
      commit_products();
      wait_for_products<0>(scores, dweights);
      softmax.add(eights_of(scores), eights_of(dweights), p.scale, left, weights, slopes);
      publish_shared();
      __syncthreads();

      // 2. The query's gradient, and what it adds to those of the keys.
      float* slots = work.added + (blockIdx.x * work.slots + first) * H;
      constexpr int kPart = kPanelsOfPart<kWidth>;
      const PanelTerm<kWidth> of_weights{weights, dout}, of_slopes{slopes, q};
      int panel = first_panel<kWidth>();
      float dkeys[kPartSums<kWidth>];
      fence_registers(dq, dkeys);
      add_weighted_keys<kWidth>(dq, slopes, keys);
      commit_products();
      multiply_heads(dkeys, panel, of_weights, of_slopes);
      commit_products();
      wait_for_products<1>(dq);
      __syncthreads();  // the keys have been read
      load_keys(first + kKeys);
      wait_for_products<0>(dkeys);
      add_to_slots(dkeys, panel, slots, left, first_head == 0, H);
#pragma unroll
      for (int part = kPart; part < kWidth / 64 / 2; part += kPart) {
        panel += kPart;
        fence_registers(dkeys);
        multiply_heads(dkeys, panel, of_weights, of_slopes);
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
