// The scores of a chunk of queries in float32, a query with 64 heads and 128 entries to a block,
// and then, a query to a block, the best of them: the k-th largest score bit by bit, and the
// entries that are above it or, from the lowest on, equal to it.
#include "kernels/cuda/best_scores.h"
#include "kernels/cuda/tables.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = kChoiceThreads;
constexpr int kHeads = 64, kEntries = 128, kChannels = 16;  // of a block at a time
constexpr int kHeadsOfThread = 4, kHeadGroups = kHeads / kHeadsOfThread;
constexpr int kEntriesOfThread = kEntries / (kThreads / kHeadGroups);

using Problem = IndexTopkProblem<float>;

// Rows [first, first + kRows) of from [rows, H], channels [channel, + kChannels), channel by
// channel; zeros beyond.
template <int kRows>
__device__ void load_transposed(float (&to)[kChannels][kRows + 1],
                                const float* from,
                                int64_t first,
                                int64_t rows,
                                int64_t channel,
                                int64_t H) {
  for (int i = thread_index(); i < kRows * kChannels; i += kThreads) {
    const int row = i / kChannels, c = i % kChannels;
    const bool exists = first + row < rows && channel + c < H;
    to[c][row] = exists ? from[(first + row) * H + channel + c] : 0.0f;
  }
}

// scores [queries, C] of the queries from first_query on, where an entry is seen.
__global__ void __launch_bounds__(kThreads)
    index_scores_kernel(Problem p, int64_t first_query, float* scores) {
  BRAID_SHARED(float[kChannels][kHeads + 1], q);
  BRAID_SHARED(float[kChannels][kEntries + 1], keys);
  BRAID_SHARED(float[kHeadGroups][kEntries], sums);
  const int64_t query = first_query + blockIdx.y, first_entry = int64_t{blockIdx.x} * kEntries;
  if (first_entry >= p.end[query] || first_entry + kEntries <= p.first[query]) {
    return;  // the whole block
  }
  const float* weight = p.weight + query * p.I;
  const float* keys_of_row = p.keys + query / p.S * p.C * p.H;
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

__global__ void __launch_bounds__(kThreads)
    index_choice_kernel(Problem p, int64_t first_query, const float* scores, int64_t* chosen) {
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

void index_topk(const Problem& p, int64_t* chosen, const IndexTopkWork& work, void* stream) {
  const int64_t queries = p.B * p.S;
  for (int64_t first = 0; first < queries; first += work.queries) {
    const int64_t count = queries - first < work.queries ? queries - first : work.queries;
    launch(index_scores_kernel,
           {blocks_of(p.C, kEntries), blocks_of(count, 1)},
           kThreads,
           stream,
           p,
           first,
           work.scores);
    launch(
        index_choice_kernel, blocks_of(count, 1), kThreads, stream, p, first, work.scores, chosen);
  }
}

}  // namespace

void add_index_topk(CudaKernels& table) {
  table.float32.index_topk = index_topk;
}

}  // namespace braid::cuda
