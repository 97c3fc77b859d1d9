// Attention by mma.sync: 64 heads of a query at a time, whose tile of keys is in shared memory
// once, as keys and as values.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/head_tiles.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = kTileThreads, kHeads = kTileHeads;
constexpr int kForwardKeys = RunningSoftmax::kKeys, kBackwardKeys = 32;

using Problem = AttentionProblem<float>;
using Results = AttentionResults<float>;
using Gradients = AttentionGradients<float>;

template <int kWidth>
constexpr int forward_bytes() {
  return (kHeads + 2 * kForwardKeys) * TileRows<kWidth>::kRowBytes +
         HeadWeights<kForwardKeys>::kBytes + 3 * kHeads * static_cast<int>(sizeof(float));
}

// Warp w has the scores of 16 heads (w % 4) and half of a tile's keys (w / 4); of the output all
// heads and an eighth of the channels.
template <int kWidth>
__global__ void __launch_bounds__(kThreads, 1) attention_mma_forward_kernel(Problem p, Results r) {
  constexpr int kTiles = kWidth / kPiece / kTileWarps, kPairs = kForwardKeys / 32;
  BRAID_DYNAMIC_SHARED(memory);
  const TileRows<kWidth> q{memory}, all_keys{memory + kHeads * TileRows<kWidth>::kRowBytes};
  const HeadWeights<kForwardKeys> weights{all_keys.memory +
                                          2 * kForwardKeys * TileRows<kWidth>::kRowBytes};
  auto* of_halves = reinterpret_cast<float*>(weights.memory + weights.kBytes);  // [2, heads]
  float* of_heads = of_halves + 2 * kHeads;
  const int64_t query = blockIdx.x, first_head = int64_t{blockIdx.y} * kHeads, N = p.keys.N;
  const int H = static_cast<int>(p.H);
  const int64_t first_row = query * N + first_head;
  const int heads = N - first_head < kHeads ? static_cast<int>(N - first_head) : kHeads;
  const int row_tiles = (heads + 15) / 16;
  const int warp = thread_index() / kWarp, lane = thread_index() % kWarp;
  const int row_tile = warp % 4, half = warp / 4;
  const SeenKeys seen(p.keys, query);
  const Sequence<Bfloat16> of(p, query);
  const auto keys_of = [&](int64_t tile) {
    return TileRows<kWidth>{all_keys.memory +
                            tile % 2 * kForwardKeys * TileRows<kWidth>::kRowBytes};
  };
  const auto load_keys = [&](int64_t tile) {
    copy_keys<kForwardKeys>(keys_of(tile), seen, of, tile * kForwardKeys, H);
  };
  copy_heads(q, reinterpret_cast<const Bfloat16*>(p.q) + first_row * H, heads, H);
  const int64_t tiles = (seen.count + kForwardKeys - 1) / kForwardKeys;
  start_tiles(tiles, load_keys);

  RunningSoftmax softmax(p.sink + first_head, heads, of_halves);
  float out[kRowTiles][kTiles][4] = {};
  for (int64_t tile = 0; tile < tiles; ++tile) {
    await_tile(tile, tiles, load_keys);
    __syncthreads();
    const auto keys = keys_of(tile);
    const int64_t left = seen.count - tile * kForwardKeys;

    // 1. Scores and weights, and by what earlier sums shrink.
    float scores[2 * kPairs][4] = {}, shrink[2];
    if (row_tile < row_tiles) {
      multiply_by_keys<kPairs>(scores, q, row_tile, keys, half * (kForwardKeys / 2), H);
    }
    softmax.add(scores, p.scale * kLog2E, left, weights, shrink);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (softmax.leads()) {
        of_heads[softmax.row(i)] = shrink[i];
      }
    }
    __syncthreads();

    // 2. The output.
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      const float shrinks[2] = {of_heads[16 * m + lane / 4], of_heads[16 * m + 8 + lane / 4]};
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int v = 0; v < 4; ++v) {
          out[m][n][v] *= shrinks[v / 2];
        }
      }
    }
    for (int k = 0; k < kForwardKeys / 16; ++k) {
      if (16 * k < left) {
        add_weighted_keys(out, weights, keys, k, row_tiles, H);
      }
    }
    __syncthreads();  // keys, weights and factors have been read
  }
  wait_for_copies<0>();

  float inverse[2];
  softmax.finish(r.log_sum + first_row, inverse);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (softmax.leads()) {
      of_heads[softmax.row(i)] = inverse[i];
    }
  }
  __syncthreads();
  store_heads(out, reinterpret_cast<Bfloat16*>(r.o) + first_row * H, heads, H, [&](int head) {
    return of_heads[head];
  });
}

template <int kWidth>
constexpr int backward_bytes() {
  return (2 * kHeads + 2 * kBackwardKeys) * TileRows<kWidth>::kRowBytes +
         2 * HeadWeights<kBackwardKeys>::kBytes + 2 * kHeads * static_cast<int>(sizeof(float));
}

// As the forward kernel; a tile has half as many keys, for dout stands beside q.
template <int kWidth>
__global__ void __launch_bounds__(kThreads, 1) attention_mma_backward_kernel(
    Problem p, const float* log_sum, Gradients g, AttentionWork work, int64_t first_query) {
  constexpr int kTiles = kWidth / kPiece / kTileWarps, kPairs = kBackwardKeys / 32;
  BRAID_DYNAMIC_SHARED(memory);
  const TileRows<kWidth> q{memory}, dout{memory + kHeads * TileRows<kWidth>::kRowBytes},
      all_keys{memory + 2 * kHeads * TileRows<kWidth>::kRowBytes};
  const HeadWeights<kBackwardKeys> weights{all_keys.memory +
                                           2 * kBackwardKeys * TileRows<kWidth>::kRowBytes},
      slopes{weights.memory + weights.kBytes};
  auto* of_halves = reinterpret_cast<float*>(slopes.memory + slopes.kBytes);  // [2, heads]
  const int64_t query = first_query + blockIdx.x, N = p.keys.N;
  const int H = static_cast<int>(p.H);
  const int warp = thread_index() / kWarp, row_tile = warp % 4, half = warp / 4;
  const SeenKeys seen(p.keys, query);
  const Sequence<Bfloat16> of(p, query);
  const auto keys_of = [&](int64_t tile) {
    return TileRows<kWidth>{all_keys.memory +
                            tile % 2 * kBackwardKeys * TileRows<kWidth>::kRowBytes};
  };
  const auto load_keys = [&](int64_t tile) {
    copy_keys<kBackwardKeys>(keys_of(tile), seen, of, tile * kBackwardKeys, H);
  };
  const int64_t tiles = (seen.count + kBackwardKeys - 1) / kBackwardKeys;
  for (int64_t first_head = 0; first_head < N; first_head += kHeads) {
    const int heads = N - first_head < kHeads ? static_cast<int>(N - first_head) : kHeads;
    const int row_tiles = (heads + 15) / 16;
    const int64_t first_row = query * N + first_head;
    copy_heads(q, reinterpret_cast<const Bfloat16*>(p.q) + first_row * H, heads, H);
    copy_heads(dout, reinterpret_cast<const Bfloat16*>(g.dout) + first_row * H, heads, H);
    start_tiles(tiles, load_keys);
    SoftmaxGradient<kBackwardKeys> softmax(log_sum + first_row, work.mean + first_row, heads);
    float dq[kRowTiles][kTiles][4] = {};
    for (int64_t tile = 0; tile < tiles; ++tile) {
      await_tile(tile, tiles, load_keys);
      __syncthreads();
      const auto keys = keys_of(tile);
      const int64_t left = seen.count - tile * kBackwardKeys;

      // 1. Weights again, and the gradients of the products q k.
      float scores[2 * kPairs][4] = {}, dweights[2 * kPairs][4] = {};
      if (row_tile < row_tiles) {
        multiply_by_keys<kPairs>(scores, q, row_tile, keys, half * (kBackwardKeys / 2), H);
        multiply_by_keys<kPairs>(dweights, dout, row_tile, keys, half * (kBackwardKeys / 2), H);
      }
      softmax.add(scores, dweights, p.scale, left, weights, slopes);
      __syncthreads();

      // 2. The query's gradient, and what it adds to those of the keys.
      for (int k = 0; k < kBackwardKeys / 16; ++k) {
        if (16 * k < left) {
          add_weighted_keys(dq, slopes, keys, k, row_tiles, H);
        }
      }
      const int64_t slot = blockIdx.x * work.slots + tile * kBackwardKeys;
      add_to_slots(work.added + slot * H,
                   left,
                   first_head == 0,
                   row_tiles,
                   H,
                   HeadTerm<kBackwardKeys, kWidth>{weights, dout},
                   HeadTerm<kBackwardKeys, kWidth>{slopes, q});
      __syncthreads();  // keys, weights and slopes have been read
    }
    wait_for_copies<0>();
    softmax.finish(work.mean + first_row, of_halves);  // and the heads have been read
    store_heads(
        dq, reinterpret_cast<Bfloat16*>(g.dq) + first_row * H, heads, H, [](int) { return 1.0f; });
  }
}

// Calls f(kWidth) with the width of tiles for the problem's rows; false where there is none.
template <class F>
bool with_width(const Problem& p, const F& f, const uint8_t* dout = nullptr) {
  if (!are_whole(p.H, p.q, p.kv, p.compressed, dout)) {
    return false;
  }
  return p.H <= 128 ? f(std::integral_constant<int, 128>{}) : f(std::integral_constant<int, 512>{});
}

}  // namespace

bool attention_mma_forward(const Problem& p, const Results& r, void* stream) {
  return with_width(p, [&](auto width) {
    constexpr int kBytes = forward_bytes<width()>();
    if (kBytes > most_shared_bytes()) {
      return false;
    }
    launch_with_shared(attention_mma_forward_kernel<width()>,
                       {blocks_of(p.keys.B * p.keys.S, 1), blocks_of(p.keys.N, kHeads)},
                       kThreads,
                       kBytes,
                       stream,
                       p,
                       r);
    return true;
  });
}

bool attention_mma_backward(const Problem& p,
                            const Results& r,
                            const Gradients& g,
                            const AttentionWork& work,
                            int64_t first,
                            int64_t count,
                            void* stream) {
  return with_width(
      p,
      [&](auto width) {
        constexpr int kBytes = backward_bytes<width()>();
        if (kBytes > most_shared_bytes()) {
          return false;
        }
        launch_with_shared(attention_mma_backward_kernel<width()>,
                           blocks_of(count, 1),
                           kThreads,
                           kBytes,
                           stream,
                           p,
                           r.log_sum,
                           g,
                           work,
                           first);
        return true;
      },
      g.dout);
}

}  // namespace braid::cuda
