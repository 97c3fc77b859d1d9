#include "kernels/cuda/device.h"
#include "kernels/cuda/tables.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 4096;  // threads take further elements where there are more

__global__ void __launch_bounds__(kThreads) adamw_kernel(AdamWProblem<float> p) {
  const auto& f = p.factors;
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + thread_index(); i < p.count; i += step) {
    const float g = p.gradient[i] * f.gradient_scale;
    const float m = p.exp_avg[i] * f.beta1 + g * f.fresh1;
    const float v = p.exp_avg_sq[i] * f.beta2 + g * g * f.fresh2;
    p.exp_avg[i] = m;
    p.exp_avg_sq[i] = v;
    p.value[i] = p.value[i] * f.decay - f.rate * m / (sqrtf(v) / f.root + f.epsilon);
  }
}

/// Block by block the squares of every kCudaNormParts-th stretch of kThreads elements.
__global__ void __launch_bounds__(kThreads)
    squared_norm_kernel(const float* x, int64_t count, double* sums) {
  double sum = 0;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + thread_index(); i < count;
       i += kCudaNormParts * kThreads) {
    const double wide = x[i];
    sum += wide * wide;
  }
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    sum += __shfl_xor_sync(kAllLanes, sum, step);
  }
  BRAID_SHARED(double[kThreads / kWarp], of_warps);
  if (thread_index() % kWarp == 0) {
    of_warps[thread_index() / kWarp] = sum;
  }
  __syncthreads();
  if (thread_index() == 0) {
    double all = 0;
    for (const double of_warp : of_warps) {
      all += of_warp;
    }
    sums[blockIdx.x] = all;
  }
}

void update_by_adamw(const AdamWProblem<float>& p, void* stream) {
  const auto blocks = std::min<int64_t>(kMostBlocks, blocks_of(p.count, kThreads));
  launch(adamw_kernel, static_cast<unsigned>(blocks), kThreads, stream, p);
}

void squared_norm(const float* x, int64_t count, double* sums, void* stream) {
  launch(squared_norm_kernel, kCudaNormParts, kThreads, stream, x, count, sums);
}

}  // namespace

void add_update(CudaKernels& table) {
  table.float32.update_by_adamw = update_by_adamw;
  table.float32.squared_norm = squared_norm;
}

}  // namespace braid::cuda
