// A block has a query with its heads; the keys that it sees come by in tiles, once as keys and once
// as values. Of bfloat16 tensors whose rows are whole pieces the products are mma.sync's
// (attention_mma.cu), or, on Hopper, wgmma's (attention_warpgroup.cu); others, and float32, take
// the plain kernels here, with a warp for each head.
//
// The gradients of keys are sums over queries. So that these have one order, and need no atomic
// additions, each query of a chunk writes what it adds to the keys that it sees, one slot a key,
// and then a block for each key adds up its slots in the order of queries.
#include "kernels/cuda/plain_heads.h"
#include "kernels/cuda/tables.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = kPlainThreads, kWarps = kThreads / kWarp;

using Problem = AttentionProblem<float>;
using Results = AttentionResults<float>;
using Gradients = AttentionGradients<float>;

template <class E>
__global__ void __launch_bounds__(kThreads, 2) attention_forward_kernel(Problem p, Results r) {
  BRAID_DYNAMIC_SHARED(memory);
  const PlainMemory m(memory, p.H, /*backward=*/false);
  const int64_t query = blockIdx.x, N = p.keys.N;
  const int warp = thread_index() / kWarp, lane = thread_index() % kWarp;
  const int64_t head = int64_t{blockIdx.y} * kPlainHeads + warp, row = query * N + head;
  const SeenKeys seen(p.keys, query);
  const Sequence<E> of(p, query);
  m.load_head(m.q, reinterpret_cast<const E*>(p.q) + query * N * p.H, head, N);
  float out[kChannelsOfLane] = {}, *weights = m.weights + warp * kPlainKeys;
  float largest = head < N ? p.sink[head] : 0.0f, sum = 1;  // so far there is the sink
  for (int64_t first = 0; first < seen.count; first += kPlainKeys) {
    __syncthreads();  // the keys before have been read
    m.load_keys(seen, of, first);
    __syncthreads();
    const bool sees = first + lane < seen.count;
    const float z = sees ? p.scale * m.product(m.q) : -INFINITY;
    const float now = larger(largest, warp_largest(z)), shrink = expf(largest - now);
    const float weight = sees ? expf(z - now) : 0.0f;
    largest = now;
    sum = sum * shrink + warp_sum(weight);
    weights[lane] = weight;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kChannelsOfLane; ++i) {
      out[i] *= shrink;
    }
    add_keys(m, weights, out);
  }
  if (head >= N) {
    return;
  }
  if (lane == 0) {
    r.log_sum[row] = largest + logf(sum);
  }
#pragma unroll
  for (int i = 0; i < kChannelsOfLane; ++i) {
    const int64_t channel = lane + kWarp * i;
    if (channel < p.H) {
      reinterpret_cast<E*>(r.o)[row * p.H + channel] = narrowed<E>(out[i] / sum);
    }
  }
}

template <class E>
__global__ void __launch_bounds__(kThreads, 2) attention_backward_kernel(
    Problem p, const float* log_sum, Gradients g, AttentionWork work, int64_t first_query) {
  BRAID_DYNAMIC_SHARED(memory);
  const PlainMemory m(memory, p.H, /*backward=*/true);
  const int64_t query = first_query + blockIdx.x, N = p.keys.N, H = p.H;
  const int warp = thread_index() / kWarp, lane = thread_index() % kWarp;
  const SeenKeys seen(p.keys, query);
  const Sequence<E> of(p, query);
  float *weights = m.weights + warp * kPlainKeys, *slopes = m.slopes + warp * kPlainKeys;
  float* slots = work.added + blockIdx.x * work.slots * H;
  for (int64_t group = 0; group < N; group += kPlainHeads) {
    const int64_t head = group + warp, row = query * N + head;
    __syncthreads();  // the heads before have been read
    m.load_head(m.q, reinterpret_cast<const E*>(p.q) + query * N * H, head, N);
    m.load_head(m.d, reinterpret_cast<const E*>(g.dout) + query * N * H, head, N);
    const float of_row = head < N ? log_sum[row] : 0.0f, mean = head < N ? work.mean[row] : 0.0f;
    float dq[kChannelsOfLane] = {}, sum = 0;
    for (int64_t first = 0; first < seen.count; first += kPlainKeys) {
      __syncthreads();
      m.load_keys(seen, of, first);
      __syncthreads();
      const bool sees = head < N && first + lane < seen.count;
      const float weight = sees ? expf(p.scale * m.product(m.q) - of_row) : 0.0f;
      weights[lane] = weight;
      const float dweight = m.product(m.d);
      slopes[lane] = p.scale * weight * (dweight - mean);
      sum += warp_sum(weight * dweight);
      __syncthreads();
      add_keys(m, slopes, dq);
      const int64_t numbers =
          (seen.count - first < kPlainKeys ? seen.count - first : kPlainKeys) * H;
      for (int64_t i = thread_index(); i < numbers; i += kThreads) {
        const int64_t key = i / H, channel = i % H;
        float& slot = slots[first * H + i];
        float added = group == 0 ? 0.0f : slot;
#pragma unroll
        for (int h = 0; h < kPlainHeads; ++h) {
          added += m.weights[h * kPlainKeys + key] * m.d[h * H + channel] +
                   m.slopes[h * kPlainKeys + key] * m.q[h * H + channel];
        }
        slot = added;
      }
    }
    if (head < N && lane == 0) {
      work.mean[row] = sum;
    }
#pragma unroll
    for (int i = 0; i < kChannelsOfLane; ++i) {
      const int64_t channel = lane + kWarp * i;
      if (head < N && channel < H) {
        reinterpret_cast<E*>(g.dq)[row * H + channel] = narrowed<E>(dq[i]);
      }
    }
  }
}

// ---- Kernels for all types: around the backward pass ----

// mean = o . do, the mean of the gradients of a row's weights, as far as o was rounded. A warp has
// a row. The backward kernels then put the sum of weights times gradients there: the gradients of
// sinks are sums in which much cancels.
template <class E>
__global__ void __launch_bounds__(kThreads)
    attention_mean_kernel(const E* o, const E* dout, float* mean, int64_t rows, int64_t H) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + thread_index() / kWarp;
  if (row >= rows) {
    return;  // a whole warp
  }
  float sum = 0;
  for (int64_t c = thread_index() % kWarp; c < H; c += kWarp) {
    sum += widened(o[row * H + c]) * widened(dout[row * H + c]);
  }
  sum = warp_sum(sum);
  if (thread_index() % kWarp == 0) {
    mean[row] = sum;
  }
}

// dsink -= sum over queries of the sink's weight times the mean. A block has a head.
__global__ void __launch_bounds__(kThreads) attention_sink_kernel(
    const float* sink, const float* log_sum, const float* mean, float* dsink, int64_t queries) {
  const int64_t head = blockIdx.x, N = gridDim.x;
  float sum = 0;
  for (int64_t query = thread_index(); query < queries; query += kThreads) {
    sum += expf(sink[head] - log_sum[query * N + head]) * mean[query * N + head];
  }
  sum = block_sum<kThreads>(sum);
  if (thread_index() == 0) {
    dsink[head] -= sum;
  }
}

// Adds to a key's gradient what the queries of a chunk have put into its slots, in their order.
__global__ void __launch_bounds__(kThreads)
    attention_keys_kernel(AttentionKeys keys, int64_t H, QuerySlots given, KeyGradients to_keys) {
  constexpr int kOfThread = kMostChannels / kThreads;
  BRAID_SHARED(int64_t[kThreads], slots);
  BRAID_SHARED(int, any);
  const int64_t key = blockIdx.x, row = blockIdx.y;
  float sum[kOfThread] = {};
  for (int64_t begin = 0; begin < given.queries; begin += kThreads) {
    __syncthreads();  // the slots before have been read
    if (thread_index() == 0) {
      any = 0;
    }
    __syncthreads();
    const int64_t i = begin + thread_index(), query = given.first_query + i;
    const bool is_of_row = i < given.queries && query / keys.S == row;
    const int64_t slot = is_of_row ? slot_of(keys, query, key) : -1;
    slots[thread_index()] = slot;
    if (slot >= 0) {
      any = 1;  // the same from all
    }
    __syncthreads();
    for (int j = 0; any != 0 && j < kThreads; ++j) {
      if (slots[j] < 0) {
        continue;
      }
      const float* added = given.added + ((begin + j) * given.slots + slots[j]) * H;
#pragma unroll
      for (int c = 0; c < kOfThread; ++c) {
        const int64_t channel = thread_index() + kThreads * c;
        sum[c] += channel < H ? added[channel] : 0.0f;
      }
    }
  }
  float* to = key < keys.U ? to_keys.raw + (row * keys.U + key) * H
                           : to_keys.entries + (row * keys.C + key - keys.U) * H;
#pragma unroll
  for (int c = 0; c < kOfThread; ++c) {
    const int64_t channel = thread_index() + kThreads * c;
    if (channel < H) {
      to[channel] += sum[c];
    }
  }
}

// ---- Launches ----

void require_fitting(const Problem& p) {
  require(p.H <= kMostChannels,
          "[attention] no kernel for ",
          p.H,
          " channels; there are some for ",
          kMostChannels);
}

template <class E>
void attention_forward(const Problem& p, const Results& r, void* stream) {
  require_fitting(p);
  if (std::is_same_v<E, Bfloat16> &&
      (attention_warpgroup_forward(p, r, stream) || attention_mma_forward(p, r, stream))) {
    return;
  }
  launch_with_shared(attention_forward_kernel<E>,
                     {blocks_of(p.keys.B * p.keys.S, 1), blocks_of(p.keys.N, kPlainHeads)},
                     kThreads,
                     PlainMemory::bytes(p.H, /*backward=*/false),
                     stream,
                     p,
                     r);
}

template <class E>
void attention_backward(const Problem& p,
                        const Results& r,
                        const Gradients& g,
                        const AttentionWork& work,
                        void* stream) {
  require_fitting(p);
  const int64_t queries = p.keys.B * p.keys.S, rows = queries * p.keys.N;
  launch(attention_mean_kernel<E>,
         blocks_of(rows, kWarps),
         kThreads,
         stream,
         reinterpret_cast<const E*>(r.o),
         reinterpret_cast<const E*>(g.dout),
         work.mean,
         rows,
         p.H);
  for (int64_t first = 0; first < queries; first += work.queries) {
    const int64_t count = queries - first < work.queries ? queries - first : work.queries;
    const bool done = std::is_same_v<E, Bfloat16> &&
                      (attention_warpgroup_backward(p, r, g, work, first, count, stream) ||
                       attention_mma_backward(p, r, g, work, first, count, stream));
    if (!done) {
      launch_with_shared(attention_backward_kernel<E>,
                         blocks_of(count, 1),
                         kThreads,
                         PlainMemory::bytes(p.H, /*backward=*/true),
                         stream,
                         p,
                         r.log_sum,
                         g,
                         work,
                         first);
    }
    add_slots_to_keys(
        p.keys, p.H, {work.added, work.slots, first, count}, {g.dkv, g.dcompressed}, stream);
  }
  launch(attention_sink_kernel,
         blocks_of(p.keys.N, 1),
         kThreads,
         stream,
         p.sink,
         r.log_sum,
         work.mean,
         g.dsink,
         queries);
}

template <class E>
void add_to(CudaKernelsOf<E>& table) {
  table.attention_forward = attention_forward<E>;
  table.attention_backward = attention_backward<E>;
}

}  // namespace

void add_slots_to_keys(const AttentionKeys& keys,
                       int64_t H,
                       const QuerySlots& slots,
                       const KeyGradients& gradients,
                       void* stream) {
  launch(attention_keys_kernel,
         {blocks_of(keys.U + keys.C, 1), blocks_of(keys.B, 1)},
         kThreads,
         stream,
         keys,
         H,
         slots,
         gradients);
}

void add_attention(CudaKernels& table) {
  add_to(table.float32);
  add_to(table.bfloat16);
}

}  // namespace braid::cuda
