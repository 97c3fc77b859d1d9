// The scores of a chunk of queries, a query with 64 heads and some entries to a block: by wgmma or
// mma.sync where rows are bfloat16 and whole pieces (products of them are exact, sums in float32),
// else in float32. And then, a query to a block, the best of them (best_scores.h).
#include "kernels/cuda/best_scores.h"
#include "kernels/cuda/index_scores.h"
#include "kernels/cuda/tables.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = kChoiceThreads;
constexpr int kHeads = 64, kEntries = 128, kChannels = 16;  // of a block at a time
constexpr int kHeadsOfThread = 4, kHeadGroups = kHeads / kHeadsOfThread;
constexpr int kEntriesOfThread = kEntries / (kThreads / kHeadGroups);

template <class E>
using Problem = IndexTopkProblem<E, float>;

// Rows [first, first + kRows) of from [rows, H], channels [channel, + kChannels), channel by
// channel; zeros beyond.
template <int kRows, class E>
__device__ void load_transposed(float (&to)[kChannels][kRows + 1],
                                const E* from,
                                int64_t first,
                                int64_t rows,
                                int64_t channel,
                                int64_t H) {
  for (int i = thread_index(); i < kRows * kChannels; i += kThreads) {
    const int row = i / kChannels, c = i % kChannels;
    const bool exists = first + row < rows && channel + c < H;
    to[c][row] = exists ? widened(from[(first + row) * H + channel + c]) : 0.0f;
  }
}

// scores [queries, C] of the queries from first_query on, where an entry is seen.
template <class E>
__global__ void __launch_bounds__(kThreads)
    index_scores_kernel(Problem<E> p, int64_t first_query, float* scores) {
  BRAID_SHARED(float[kChannels][kHeads + 1], q);
  BRAID_SHARED(float[kChannels][kEntries + 1], keys);
  BRAID_SHARED(float[kHeadGroups][kEntries], sums);
  const int64_t query = first_query + blockIdx.y, first_entry = int64_t{blockIdx.x} * kEntries;
  if (first_entry >= p.end[query] || first_entry + kEntries <= p.first[query]) {
    return;  // the whole block
  }
  const float* weight = p.weight + query * p.I;
  const E* keys_of_row = p.keys + query / p.S * p.C * p.H;
  const int group = thread_index() / (kThreads / kHeadGroups);
  const int entry = thread_index() % (kThreads / kHeadGroups);
  float sum[kEntriesOfThread] = {};
  for (int64_t first_head = 0; first_head < p.I; first_head += kHeads) {
    float products[kHeadsOfThread][kEntriesOfThread] = {};
    for (int64_t channel = 0; channel < p.H; channel += kChannels) {
      __syncthreads();  // the channels before have been read
      load_transposed<kHeads>(q, p.q + query * p.I * p.H, first_head, p.I, channel, p.H);
      load_transposed<kEntries>(keys, keys_of_row, first_entry, p.C, channel, p.H);
      __syncthreads();
#pragma unroll
      for (int c = 0; c < kChannels; ++c) {
        float of_heads[kHeadsOfThread], of_entries[kEntriesOfThread];
#pragma unroll
        for (int h = 0; h < kHeadsOfThread; ++h) {
          of_heads[h] = q[c][group * kHeadsOfThread + h];
        }
#pragma unroll
        for (int e = 0; e < kEntriesOfThread; ++e) {
          of_entries[e] = keys[c][entry + kThreads / kHeadGroups * e];
        }
#pragma unroll
        for (int h = 0; h < kHeadsOfThread; ++h) {
#pragma unroll
          for (int e = 0; e < kEntriesOfThread; ++e) {
            products[h][e] += of_heads[h] * of_entries[e];
          }
        }
      }
    }
#pragma unroll
    for (int h = 0; h < kHeadsOfThread; ++h) {
      const int64_t head = first_head + group * kHeadsOfThread + h;
      const float w = head < p.I ? weight[head] : 0.0f;
#pragma unroll
      for (int e = 0; e < kEntriesOfThread; ++e) {
        const float product = products[h][e];
        sum[e] += w * (product < 0 ? 0.0f : product);  // NaN stays
      }
    }
  }
#pragma unroll
  for (int e = 0; e < kEntriesOfThread; ++e) {
    sums[group][entry + kThreads / kHeadGroups * e] = sum[e];
  }
  __syncthreads();
  if (thread_index() < kEntries && first_entry + thread_index() < p.C) {
    float score = 0;
    for (int g = 0; g < kHeadGroups; ++g) {
      score += sums[g][thread_index()];
    }
    scores[blockIdx.y * p.C + first_entry + thread_index()] = score;
  }
}

// The same of a block of entries that the query sees, by tiles of them.
constexpr int kEntriesOfBlock = 512;

template <class Heads>
__global__ void __launch_bounds__(Heads::kThreads, 3)
    index_tensor_scores_kernel(Problem<Bfloat16> p, int64_t first_query, float* scores) {
  BRAID_DYNAMIC_SHARED(memory);
  Heads heads(memory, p.H);
  const int64_t query = first_query + blockIdx.y;
  const int64_t first = p.first[query] + int64_t{blockIdx.x} * kEntriesOfBlock;
  const int64_t end =
      first + kEntriesOfBlock < p.end[query] ? first + kEntriesOfBlock : p.end[query];
  if (first >= end) {
    return;  // the whole block
  }
  store_index_scores(heads,
                     IndexQuery<Bfloat16>{p.q + query * p.I * p.H,
                                          p.weight + query * p.I,
                                          p.I,
                                          SeenKeys(first, end),
                                          Sequence<Bfloat16>(p.keys + query / p.S * p.C * p.H)},
                     scores + blockIdx.y * p.C + first);
}

// Of what queries see, as the problem has it.
struct Choice {
  const int64_t *first, *end;
  int64_t C, k;
};

__global__ void __launch_bounds__(kThreads)
    index_choice_kernel(Choice p, int64_t first_query, const float* scores, int64_t* chosen) {
  const int64_t query = first_query + blockIdx.x;
  const int64_t first = p.first[query], end = p.end[query] > first ? p.end[query] : first;
  scores += blockIdx.x * p.C;
  chosen += query * p.k;
  const int64_t written = choose_best(
      scores, first, end, p.k, [&](int64_t entry, int64_t place) { chosen[place] = entry; });
  for (int64_t i = written + thread_index(); i < p.k; i += kThreads) {
    chosen[i] = -1;
  }
}

template <class E>
void queue_scores(const Problem<E>& p, int64_t first, int64_t count, float* scores, void* stream) {
  with_index_heads<E>(p.H, are_whole(p.H, p.q, p.keys), [&](auto* heads) {
    using Heads = std::remove_pointer_t<decltype(heads)>;
    if constexpr (std::is_same_v<Heads, PlainHeads<E>>) {
      launch(index_scores_kernel<E>,
             {blocks_of(p.C, kEntries), blocks_of(count, 1)},
             kThreads,
             stream,
             p,
             first,
             scores);
    } else {
      launch_with_shared(index_tensor_scores_kernel<Heads>,
                         {blocks_of(p.C, kEntriesOfBlock), blocks_of(count, 1)},
                         Heads::kThreads,
                         Heads::bytes(p.H),
                         stream,
                         p,
                         first,
                         scores);
    }
  });
}

template <class E>
void index_topk(const Problem<E>& p, int64_t* chosen, const IndexTopkWork& work, void* stream) {
  const int64_t queries = p.B * p.S;
  for (int64_t first = 0; first < queries; first += work.queries) {
    const int64_t count = queries - first < work.queries ? queries - first : work.queries;
    queue_scores(p, first, count, work.scores, stream);
    launch(index_choice_kernel,
           blocks_of(count, 1),
           kThreads,
           stream,
           Choice{p.first, p.end, p.C, p.k},
           first,
           work.scores,
           chosen);
  }
}

}  // namespace

void add_index_topk(CudaKernels& table) {
  table.float32.index_topk = index_topk<float>;
  table.bfloat16.index_topk = index_topk<Bfloat16>;
}

}  // namespace braid::cuda
