// A block has a row of logits and reads it twice: for its largest and its sum, then for gradients.
#include <cmath>

#include "kernels/cuda/device.h"
#include "kernels/cuda/tables.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = 512, kWarps = kThreads / kWarp;

// sum of e^(x - largest) over some of the logits.
struct Exponentials {
  float largest = -INFINITY, sum = 0;

  // NaN and +infinity make the sum NaN; -infinity adds nothing.
  __device__ void add(float x) {
    if (x > largest) {
      sum = sum * expf(largest - x) + 1.0f;
      largest = x;
    } else if (x != -INFINITY) {
      sum += expf(x - largest);
    }
  }
  __device__ void add(const Exponentials& other) {
    const float most = other.largest > largest ? other.largest : largest;
    if (most != -INFINITY) {
      sum = sum * expf(largest - most) + other.sum * expf(other.largest - most);
      largest = most;
    } else {
      sum += other.sum;  // 0, or NaN
    }
  }
};

__device__ Exponentials sum_of_block(Exponentials mine) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    // Both lanes of a pair must get the same bits, so both add in the same order.
    const Exponentials other{__shfl_xor_sync(kAllLanes, mine.largest, step),
                             __shfl_xor_sync(kAllLanes, mine.sum, step)};
    Exponentials lower = thread_index() & step ? other : mine;
    lower.add(thread_index() & step ? mine : other);
    mine = lower;
  }
  BRAID_SHARED(Exponentials[kWarps], sums);
  if (thread_index() % kWarp == 0) {
    sums[thread_index() / kWarp] = mine;
  }
  __syncthreads();
  Exponentials all;
  for (int warp = 0; warp < kWarps; ++warp) {
    all.add(sums[warp]);
  }
  return all;
}

__global__ void __launch_bounds__(kThreads) cross_entropy_rows_kernel(float* logits,
                                                                      const int64_t* targets,
                                                                      const float* weights,
                                                                      float* losses,
                                                                      int64_t V,
                                                                      bool gradients) {
  const int64_t row = blockIdx.x, target = targets[row];
  logits += row * V;
  if (target < 0) {  // not counted
    if (thread_index() == 0) {
      losses[row] = 0;
    }
    for (int64_t v = thread_index(); gradients && v < V; v += kThreads) {
      logits[v] = 0;
    }
    return;
  }
  Exponentials mine;
  for (int64_t v = thread_index(); v < V; v += kThreads) {
    mine.add(logits[v]);
  }
  const float target_logit = logits[target];
  const auto all = sum_of_block(mine);  // behind its barrier all have read the target's logit
  const float weight = weights == nullptr ? 1.0f : weights[row];
  if (thread_index() == 0) {
    losses[row] = weight * (logf(all.sum) - (target_logit - all.largest));
  }
  if (gradients) {
    const float factor = weight / all.sum;
    for (int64_t v = thread_index(); v < V; v += kThreads) {
      logits[v] = factor * expf(logits[v] - all.largest) - (v == target ? weight : 0.0f);
    }
  }
}

void cross_entropy_rows(float* logits,
                        const int64_t* targets,
                        const float* weights,
                        float* losses,
                        int64_t rows,
                        int64_t V,
                        bool gradients,
                        void* stream) {
  launch(cross_entropy_rows_kernel,
         blocks_of(rows, 1),
         kThreads,
         stream,
         logits,
         targets,
         weights,
         losses,
         V,
         gradients);
}

}  // namespace

void add_cross_entropy(CudaKernels& table) {
  table.float32.cross_entropy_rows = cross_entropy_rows;
}

}  // namespace braid::cuda
