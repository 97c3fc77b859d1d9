#pragma once
// The best of a query's scores, found by a block: the k-th largest score bit by bit, and the
// entries that are above it or, from the lowest on, equal to it.
#include <cmath>

#include "kernels/cuda/device.h"

namespace braid::cuda {

constexpr int kChoiceThreads = 256, kChoiceWarps = kChoiceThreads / kWarp;

// Ordered as the scores are; what is not a number is the worst, and zero has one sign.
__device__ inline uint32_t ordered_bits(float score) {
  const uint32_t bits = __float_as_uint(score == score ? score + 0.0f : -INFINITY);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// The sum over the threads of a block.
__device__ inline int block_count(int count) {
  BRAID_SHARED(int[kChoiceWarps], counts);
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    count += __shfl_xor_sync(kAllLanes, count, step);
  }
  __syncthreads();  // all have read the counts of an earlier call
  if (thread_index() % kWarp == 0) {
    counts[thread_index() / kWarp] = count;
  }
  __syncthreads();
  int sum = 0;
  for (int w = 0; w < kChoiceWarps; ++w) {
    sum += counts[w];
  }
  return sum;
}

// The sum over the threads before this one; `all` becomes the sum over all of them.
__device__ inline int count_before(int count, int& all) {
  BRAID_SHARED(int[kChoiceWarps], counts);
  const int warp = thread_index() / kWarp, lane = thread_index() % kWarp;
  int end = count;
#pragma unroll
  for (int step = 1; step < kWarp; step *= 2) {
    const int before = __shfl_sync(kAllLanes, end, (lane - step) & (kWarp - 1));
    end += lane >= step ? before : 0;
  }
  __syncthreads();
  if (lane == kWarp - 1) {
    counts[warp] = end;
  }
  __syncthreads();
  int before = end - count;
  all = 0;
  for (int w = 0; w < kChoiceWarps; ++w) {
    before += w < warp ? counts[w] : 0;
    all += counts[w];
  }
  return before;
}

// Calls take(entry, place) for the k best of the entries [first, end), by ascending entry, each
// from one thread; place counts them. How many there are. All of a block's kChoiceThreads call it.
template <class Take>
__device__ inline int64_t choose_best(
    const float* scores, int64_t first, int64_t end, int64_t k, const Take& take) {
  // The k-th largest score, or less than all where there are no more than k: the largest number
  // that at least k scores reach.
  uint32_t kth = 0;
  if (end - first > k) {
    for (int bit = 31; bit >= 0; --bit) {
      const uint32_t higher = kth | uint32_t{1} << bit;
      int count = 0;
      for (int64_t c = first + thread_index(); c < end; c += kChoiceThreads) {
        count += ordered_bits(scores[c]) >= higher;
      }
      kth = block_count(count) >= k ? higher : kth;
    }
  }
  int above = 0;
  for (int64_t c = first + thread_index(); c < end; c += kChoiceThreads) {
    above += ordered_bits(scores[c]) > kth;
  }
  const int equals = static_cast<int>(k) - block_count(above);  // that there is room for
  int written = 0, equals_before = 0;
  for (int64_t begin = first; begin < end; begin += kChoiceThreads) {
    const int64_t c = begin + thread_index();
    const uint32_t bits = c < end ? ordered_bits(scores[c]) : 0;
    const bool is_equal = c < end && bits == kth;
    int all_equal, all_taken;
    const int before = equals_before + count_before(is_equal, all_equal);
    const bool taken = c < end && (bits > kth || (is_equal && before < equals));
    const int place = written + count_before(taken, all_taken);
    if (taken) {
      take(c, place);
    }
    equals_before += all_equal;
    written += all_taken;
  }
  return written;
}

}  // namespace braid::cuda
