// The order of the experts' rows, in three launches: how many pairs of each expert a block of pairs
// has, where these begin, and the pairs' places. Warps of a block count one after the other, so
// that pairs of an expert stay in order and no atomic addition is needed. Then rows on their way to
// the experts and back: a block has a token with its K rows.
#include "kernels/cuda/device.h"
#include "kernels/cuda/tables.h"

namespace braid::cuda {
namespace {

constexpr int kPairs = static_cast<int>(kExpertOrderPairs);  // and threads of a block
constexpr int kExperts = static_cast<int>(kCudaOrderedExperts);

// Calls place(pair, number) for each pair of this block: next[expert], which grows by that. All
// threads call it; next must have been written before a barrier.
template <class Place>
__device__ void in_order_of_pairs(const ExpertOrderProblem& p, int* next, const Place& place) {
  const int64_t pair = int64_t{blockIdx.x} * kPairs + thread_index();
  const int64_t id = pair < p.pairs ? p.experts[pair] : -1;
  const int expert = id >= 0 && id < p.E ? static_cast<int>(id) : -1;
  const int warp = thread_index() / kWarp, lane = thread_index() % kWarp;
  // The lanes of this warp with the same expert: those before, and all.
  int before = 0, all = 0;
  for (int other = 0; other < kWarp; ++other) {
    const bool same = __shfl_sync(kAllLanes, expert, other) == expert;
    all += same;
    before += same && other < lane;
  }
  for (int turn = 0; turn < kPairs / kWarp; ++turn) {
    if (turn == warp) {
      const int first = expert >= 0 ? next[expert] : 0;
      if (expert >= 0) {
        place(pair, first + before);
      }
      __syncwarp();  // all lanes have read it
      if (expert >= 0 && before == 0) {
        next[expert] = first + all;
      }
    }
    __syncthreads();
  }
}

__global__ void __launch_bounds__(kPairs) count_pairs_kernel(ExpertOrderProblem p) {
  BRAID_SHARED(int[kExperts], next);
  for (int64_t e = thread_index(); e < p.E; e += kPairs) {
    next[e] = 0;
  }
  __syncthreads();
  in_order_of_pairs(p, next, [](int64_t, int) {});
  for (int64_t e = thread_index(); e < p.E; e += kPairs) {
    p.counts[blockIdx.x * p.E + e] = next[e];
  }
}

// counts become those of the blocks before, first the experts' bounds. One block.
__global__ void __launch_bounds__(kExperts)
    add_counts_kernel(ExpertOrderProblem p, int64_t blocks) {
  BRAID_SHARED(int[2][kExperts], ends);
  const int e = thread_index();
  int count = 0;
  for (int64_t block = 0; e < p.E && block < blocks; ++block) {
    int32_t& here = p.counts[block * p.E + e];
    const int32_t of_block = here;
    here = count;
    count += of_block;
  }
  // The sums over all experts up to this one.
  int end = count;
  for (int step = 1, turn = 0; step < kExperts; step *= 2, turn = 1 - turn) {
    ends[turn][e] = end;
    __syncthreads();
    end += e >= step ? ends[turn][e - step] : 0;
  }
  if (e < p.E) {
    p.first[e] = end - count;
  }
  if (e + 1 == p.E) {
    p.first[p.E] = end;
  }
}

__global__ void __launch_bounds__(kPairs) place_pairs_kernel(ExpertOrderProblem p) {
  BRAID_SHARED(int[kExperts], next);
  for (int64_t e = thread_index(); e < p.E; e += kPairs) {
    next[e] = static_cast<int>(p.first[e]) + p.counts[blockIdx.x * p.E + e];
  }
  __syncthreads();
  in_order_of_pairs(p, next, [&](int64_t pair, int row) { p.row[pair] = row; });
}

void order_by_expert(const ExpertOrderProblem& p, void* stream) {
  require(p.E <= kExperts, "[routed_experts] no kernel for the order of ", p.E, " experts");
  const auto blocks = blocks_of(p.pairs, kPairs);
  launch(count_pairs_kernel, blocks, kPairs, stream, p);
  launch(add_counts_kernel, 1, kExperts, stream, p, int64_t{blocks});
  launch(place_pairs_kernel, blocks, kPairs, stream, p);
}

constexpr int kThreads = 256;

// Copies a token to its K rows, and where it has weights, those too.
template <bool kWhole, class In, class Out>
__global__ void __launch_bounds__(kThreads) spread_rows_kernel(
    ExpertRowsProblem p, const In* tokens, const float* weights, Out* rows, float* row_weights) {
  const int64_t token = blockIdx.x;
  const int64_t* row = p.row + token * p.K;
  if (weights != nullptr) {
    for (int64_t k = thread_index(); k < p.K; k += kThreads) {
      row_weights[row[k]] = weights[token * p.K + k];
    }
  }
  for (int64_t i = int64_t{kPiece} * thread_index(); i < p.D; i += kPiece * kThreads) {
    float x[kPiece];
    load<kWhole>(tokens + token * p.D, i, p.D, x);
    for (int64_t k = 0; k < p.K; ++k) {
      store<kWhole>(x, rows + row[k] * p.D, i, p.D);
    }
  }
}

// The opposite: the sum of a token's K rows in the order of k.
template <bool kWhole, class In, class Out>
__global__ void __launch_bounds__(kThreads) sum_rows_kernel(
    ExpertRowsProblem p, const In* rows, const float* row_weights, Out* tokens, float* weights) {
  const int64_t token = blockIdx.x;
  const int64_t* row = p.row + token * p.K;
  if (weights != nullptr) {
    for (int64_t k = thread_index(); k < p.K; k += kThreads) {
      weights[token * p.K + k] = row_weights[row[k]];
    }
  }
  for (int64_t i = int64_t{kPiece} * thread_index(); i < p.D; i += kPiece * kThreads) {
    float sum[kPiece] = {};
    for (int64_t k = 0; k < p.K; ++k) {
      float x[kPiece];
      load<kWhole>(rows + row[k] * p.D, i, p.D, x);
#pragma unroll
      for (int c = 0; c < kPiece; ++c) {
        sum[c] += x[c];
      }
    }
    store<kWhole>(sum, tokens + token * p.D, i, p.D);
  }
}

template <class In, class Out>
void spread_rows(const ExpertRowsProblem& p,
                 const In* tokens,
                 const float* weights,
                 Out* rows,
                 float* row_weights,
                 void* stream) {
  const bool whole = are_whole(p.D, tokens, rows);
  launch(whole ? spread_rows_kernel<true, In, Out> : spread_rows_kernel<false, In, Out>,
         blocks_of(p.tokens, 1),
         kThreads,
         stream,
         p,
         tokens,
         weights,
         rows,
         row_weights);
}

template <class In, class Out>
void sum_rows(const ExpertRowsProblem& p,
              const In* rows,
              const float* row_weights,
              Out* tokens,
              float* weights,
              void* stream) {
  const bool whole = are_whole(p.D, rows, tokens);
  launch(whole ? sum_rows_kernel<true, In, Out> : sum_rows_kernel<false, In, Out>,
         blocks_of(p.tokens, 1),
         kThreads,
         stream,
         p,
         rows,
         row_weights,
         tokens,
         weights);
}

template <class E>
void combine_of_experts(const ExpertRowsProblem& p, const E* rows, float* out, void* stream) {
  sum_rows<E, float>(p, rows, nullptr, out, nullptr, stream);
}

template <class E>
void combine_of_experts_backward(const ExpertRowsProblem& p,
                                 const float* dout,
                                 E* drows,
                                 void* stream) {
  spread_rows<float, E>(p, dout, nullptr, drows, nullptr, stream);
}

template <class E>
void add_to(CudaKernelsOf<E>& table) {
  table.permute_to_experts = spread_rows<E, E>;
  table.permute_to_experts_backward = sum_rows<E, E>;
  table.combine_of_experts = combine_of_experts<E>;
  table.combine_of_experts_backward = combine_of_experts_backward<E>;
}

}  // namespace

void add_expert_rows(CudaKernels& table) {
  table.float32.order_by_expert = order_by_expert;
  add_to(table.float32);
  add_to(table.bfloat16);
}

}  // namespace braid::cuda
