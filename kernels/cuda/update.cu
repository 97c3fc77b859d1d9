#include "kernels/cuda/device.h"
#include "kernels/cuda/tables.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 4096;  // threads take further elements where there are more

// In how many parts the squares of so many elements are summed: a function of the number alone.
__host__ __device__ inline int64_t norm_parts(int64_t count) {
  const int64_t parts = count / 8192;
  return parts < 1 ? 1 : parts < kCudaNormParts ? parts : kCudaNormParts;
}

__global__ void __launch_bounds__(kThreads) adamw_kernel(AdamWBatch batch) {
  const auto& p = batch.of[blockIdx.y];
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

// The sum over a block, in its first thread.
__device__ double block_sum_of(double x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    x += __shfl_xor_sync(kAllLanes, x, step);
  }
  BRAID_SHARED(double[kThreads / kWarp], of_warps);
  if (thread_index() % kWarp == 0) {
    of_warps[thread_index() / kWarp] = x;
  }
  __syncthreads();
  double all = 0;
  for (const double of_warp : of_warps) {
    all += of_warp;
  }
  return all;
}

// A part of a tensor is every parts-th stretch of kThreads elements.
__global__ void __launch_bounds__(kThreads) squared_parts_kernel(SquaredNorms p) {
  const auto& of = p.of[blockIdx.y];
  const int64_t parts = norm_parts(of.count);
  if (blockIdx.x >= parts) {
    return;  // the whole block
  }
  double sum = 0;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + thread_index(); i < of.count;
       i += parts * kThreads) {
    const double wide = of.x[i];
    sum += wide * wide;
  }
  sum = block_sum_of(sum);
  if (thread_index() == 0) {
    p.parts[blockIdx.y * kCudaNormParts + blockIdx.x] = sum;
  }
}

__global__ void __launch_bounds__(kThreads) add_parts_kernel(SquaredNorms p) {
  const auto& of = p.of[blockIdx.x];
  const double* parts = p.parts + blockIdx.x * kCudaNormParts;
  double sum = 0;
  for (int64_t i = thread_index(); i < norm_parts(of.count); i += kThreads) {
    sum += parts[i];
  }
  sum = block_sum_of(sum);
  if (thread_index() == 0) {
    *of.sum = sum;
  }
}

void update_by_adamw(const AdamWBatch& batch, void* stream) {
  int64_t most = 0;
  for (int i = 0; i < batch.count; ++i) {
    most = std::max(most, batch.of[i].count);
  }
  const auto blocks = std::min<int64_t>(kMostBlocks, blocks_of(most, kThreads));
  launch(adamw_kernel,
         {static_cast<unsigned>(blocks), static_cast<unsigned>(batch.count)},
         kThreads,
         stream,
         batch);
}

void squared_norms(const SquaredNorms& p, void* stream) {
  int64_t most = 0;
  for (int i = 0; i < p.count; ++i) {
    most = std::max(most, norm_parts(p.of[i].count));
  }
  const auto count = static_cast<unsigned>(p.count);
  launch(squared_parts_kernel, {static_cast<unsigned>(most), count}, kThreads, stream, p);
  launch(add_parts_kernel, count, kThreads, stream, p);
}

}  // namespace

void add_update(CudaKernels& table) {
  table.float32.update_by_adamw = update_by_adamw;
  table.float32.squared_norms = squared_norms;
}

}  // namespace braid::cuda
