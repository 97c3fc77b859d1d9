// A thread has a token.
#include "kernels/cuda/device.h"
#include "kernels/cuda/sinkhorn_matrix.h"
#include "kernels/cuda/tables.h"

namespace braid::cuda {
namespace {

constexpr int kTokens = kWarp, kM = kCudaStreams;  // of a block

__device__ SinkhornMatrix<kM> matrix_of(const SinkhornProblem<float>& p, int64_t token) {
  const float* logits = p.logits + token * kM * kM;
  return {[=](int i, int j) { return logits[i * kM + j]; }, p.eps};
}

__global__ void __launch_bounds__(kTokens)
    sinkhorn_forward_kernel(SinkhornProblem<float> p, float* matrix) {
  const int64_t token = int64_t{blockIdx.x} * kTokens + thread_index();
  if (token >= p.tokens) {
    return;
  }
  auto m = matrix_of(p, token);
  m.run(p.iterations);
#pragma unroll
  for (int i = 0; i < kM * kM; ++i) {
    matrix[token * kM * kM + i] = m.at(i / kM, i % kM);
  }
}

__global__ void __launch_bounds__(kTokens)
    sinkhorn_backward_kernel(SinkhornProblem<float> p, const float* dmatrix, float* dlogits) {
  BRAID_SHARED(float[kMaxSinkhornSteps][kM][kTokens], factors);
  const int64_t token = int64_t{blockIdx.x} * kTokens + thread_index();
  if (token >= p.tokens) {
    return;
  }
  auto m = matrix_of(p, token);
  float gradient[kM][kM];
#pragma unroll
  for (int i = 0; i < kM * kM; ++i) {
    gradient[i / kM][i % kM] = dmatrix[token * kM * kM + i];
  }
  m.run_backward(p.iterations, gradient, [&](int step, int i) -> float& {
    return factors[step][i][thread_index()];
  });
#pragma unroll
  for (int i = 0; i < kM * kM; ++i) {
    dlogits[token * kM * kM + i] = gradient[i / kM][i % kM];
  }
}

void require_fitting(const SinkhornProblem<float>& p) {
  require(p.M == kM && p.iterations <= kCudaSinkhornIterations,
          "[sinkhorn] the kernel takes ",
          kM,
          " streams and at most ",
          kCudaSinkhornIterations,
          " iterations, not ",
          p.M,
          " and ",
          p.iterations);
}

void sinkhorn_forward(const SinkhornProblem<float>& p, float* matrix, void* stream) {
  require_fitting(p);
  launch(sinkhorn_forward_kernel, blocks_of(p.tokens, kTokens), kTokens, stream, p, matrix);
}

void sinkhorn_backward(const SinkhornProblem<float>& p,
                       const float* dmatrix,
                       float* dlogits,
                       void* stream) {
  require_fitting(p);
  launch(
      sinkhorn_backward_kernel, blocks_of(p.tokens, kTokens), kTokens, stream, p, dmatrix, dlogits);
}

}  // namespace

void add_sinkhorn(CudaKernels& table) {
  table.float32.sinkhorn_forward = sinkhorn_forward;
  table.float32.sinkhorn_backward = sinkhorn_backward;
}

}  // namespace braid::cuda
