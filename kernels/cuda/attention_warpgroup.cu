// Attention's forward pass by wgmma, for Hopper: 64 heads of a query at a time, whose tile of keys
// is in shared memory once, as keys and as values. Two warpgroups have the scores of half of a
// tile's keys and half of the output's channels each.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/head_tiles.h"
#include "kernels/cuda/warpgroup.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = kTileThreads, kHeads = kTileHeads, kKeys = RunningSoftmax::kKeys;
constexpr int kWidth = static_cast<int>(kCudaAttentionWidth);
constexpr int kPanels = kWidth / 64, kPanelsOfGroup = kPanels / 2;
constexpr int kSums = kWidth / 2 / 2;  // of a thread: 64 heads x 256 channels
static_assert(kThreads == 2 * kWarpgroup && kHeads == 64);

using Problem = AttentionProblem<float>;
using Results = AttentionResults<float>;
using Heads = PanelRows<kWidth, kHeads>;
using Keys = PanelRows<kWidth, kKeys>;
using Weights = PanelRows<kKeys, kHeads>;

constexpr int kBytes = Heads::kBytes + 2 * Keys::kBytes + Weights::kBytes +
                       2 * kHeads * static_cast<int>(sizeof(float));

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
  const int H = static_cast<int>(p.H), group = thread_index() / kWarpgroup;
  const int64_t first_row = query * N + first_head;
  const int heads = N - first_head < kHeads ? static_cast<int>(N - first_head) : kHeads;
  const SeenKeys seen(p.keys, query);
  const Sequence<Bfloat16> of(p, query);
  const auto keys_of = [&](int64_t tile) {
    return Keys{all_keys.memory + tile % 2 * Keys::kBytes};
  };
  const auto load_keys = [&](int64_t tile) {
    keys_of(tile).template load<kThreads>(kKeys, H, [&](int i) -> const Bfloat16* {
      const int64_t key = tile * kKeys + i;
      return key < seen.count ? seen.row(key, of.kv, of.compressed, H) : nullptr;
    });
  };
  q.template load<kThreads>(kHeads, H, [&](int i) {
    return i < heads ? reinterpret_cast<const Bfloat16*>(p.q) + (first_row + i) * H : nullptr;
  });
  const int64_t tiles = (seen.count + kKeys - 1) / kKeys;
  start_tiles(tiles, load_keys);

  RunningSoftmax softmax(p.sink + first_head, heads, of_halves);
  float out[kSums] = {};
  for (int64_t tile = 0; tile < tiles; ++tile) {
    await_tile(tile, tiles, load_keys);
    publish_shared();
    __syncthreads();
    const Keys keys = keys_of(tile);
    const int64_t left = seen.count - tile * kKeys;

    // 1. Scores of the warpgroup's keys and weights, and by what earlier sums shrink.
    float scores[RunningSoftmax::kEights][4], shrink[2];
    auto& sums = reinterpret_cast<float(&)[4 * RunningSoftmax::kEights]>(scores);
    fence_registers(sums);
#pragma unroll
    for (int k = 0; k < kWidth / 16; ++k) {
      warpgroup_multiply(sums, by_rows(q, 0, k), by_rows(keys, group * (kKeys / 2), k), k > 0);
    }
    commit_products();
    wait_for_products<0>(sums);
    softmax.add(scores, p.scale * RunningSoftmax::kLog2E, left, weights, shrink);
#pragma unroll
    for (int v = 0; v < kSums; ++v) {
      out[v] *= shrink[v / 2 % 2];
    }
    publish_shared();
    __syncthreads();

    // 2. The output: weights times the warpgroup's channels.
    fence_registers(out);
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k) {
      warpgroup_multiply(
          out, by_rows(weights, 0, k), by_panels(keys, group * kPanelsOfGroup, k), true);
    }
    commit_products();
    wait_for_products<0>(out);
    __syncthreads();  // keys and weights have been read
  }
  wait_for_copies<0>();

  float inverse[2];
  softmax.finish(r.log_sum + first_row, inverse);
  auto* o = reinterpret_cast<Bfloat16*>(r.o) + first_row * H;
#pragma unroll
  for (int v = 0; v < kSums; v += 2) {
    const int row = softmax.row(v / 2 % 2);
    const int channel = group * (kWidth / 2) + v / 4 * kPiece + softmax.lane() % 4 * 2;
    if (row < heads && channel < H) {
      *reinterpret_cast<uint32_t*>(o + row * H + channel) =
          narrowed_pair(inverse[v / 2 % 2] * out[v], inverse[v / 2 % 2] * out[v + 1]);
    }
  }
}

}  // namespace

bool attention_warpgroup_forward(const Problem& p, const Results& r, void* stream) {
  constexpr int kNarrow = 128;  // for which attention_mma.cu has smaller tiles
  if (!has_warpgroup_products() || !are_whole(p.H, p.q, p.kv, p.compressed) || p.H <= kNarrow ||
      kBytes > most_shared_bytes()) {
    return false;
  }
  launch_with_shared(attention_warpgroup_forward_kernel,
                     {blocks_of(p.keys.B * p.keys.S, 1), blocks_of(p.keys.N, kHeads)},
                     kThreads,
                     kBytes,
                     stream,
                     p,
                     r);
  return true;
}

}  // namespace braid::cuda
