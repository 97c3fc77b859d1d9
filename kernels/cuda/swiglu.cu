// A block has a row.
#include "kernels/cuda/device.h"
#include "kernels/cuda/tables.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = 256;

// NaN stays.
__device__ float at_most(float x, float limit) {
  return x > limit ? limit : x;
}
__device__ float at_least(float x, float limit) {
  return x < limit ? limit : x;
}

template <bool kWhole, class E>
__global__ void __launch_bounds__(kThreads) swiglu_forward_kernel(SwigluProblem<E, float> p, E* h) {
  const int64_t row = blockIdx.x;
  const float factor = p.weight != nullptr ? p.weight[row] : 1.0f;
  for (int64_t i = int64_t{kPiece} * thread_index(); i < p.F; i += kPiece * kThreads) {
    float gate[kPiece], up[kPiece];
    load<kWhole>(p.gate + row * p.F, i, p.F, gate);
    load<kWhole>(p.up + row * p.F, i, p.F, up);
#pragma unroll
    for (int j = 0; j < kPiece; ++j) {
      const float a = at_most(gate[j], p.limit), b = at_most(at_least(up[j], -p.limit), p.limit);
      gate[j] = factor * (a / (1.0f + expf(-a))) * b;
    }
    store<kWhole>(gate, h + row * p.F, i, p.F);
  }
}

template <bool kWhole, class E>
__global__ void __launch_bounds__(kThreads) swiglu_backward_kernel(
    SwigluProblem<E, float> p, const E* dh, E* dgate, E* dup, float* dweight) {
  const int64_t row = blockIdx.x;
  const float factor = p.weight != nullptr ? p.weight[row] : 1.0f;
  float sum = 0;
  for (int64_t i = int64_t{kPiece} * thread_index(); i < p.F; i += kPiece * kThreads) {
    float gate[kPiece], up[kPiece], d[kPiece];
    load<kWhole>(p.gate + row * p.F, i, p.F, gate);
    load<kWhole>(p.up + row * p.F, i, p.F, up);
    load<kWhole>(dh + row * p.F, i, p.F, d);
#pragma unroll
    for (int j = 0; j < kPiece; ++j) {
      const float a = at_most(gate[j], p.limit), b = at_most(at_least(up[j], -p.limit), p.limit);
      const float sigmoid = 1.0f / (1.0f + expf(-a)), silu = a * sigmoid;
      const float slope = sigmoid * (1.0f + a * (1.0f - sigmoid));
      sum += d[j] * b * silu;
      gate[j] = gate[j] <= p.limit ? factor * d[j] * b * slope : 0.0f;
      up[j] = b == up[j] ? factor * d[j] * silu : 0.0f;
    }
    store<kWhole>(gate, dgate + row * p.F, i, p.F);
    store<kWhole>(up, dup + row * p.F, i, p.F);
  }
  if (dweight != nullptr) {  // the same for all threads
    sum = block_sum<kThreads>(sum);
    if (thread_index() == 0) {
      dweight[row] = sum;
    }
  }
}

template <class E>
void swiglu_forward(const SwigluProblem<E, float>& p, E* h, void* stream) {
  const bool whole = are_whole(p.F, p.gate, p.up, h);
  launch(whole ? swiglu_forward_kernel<true, E> : swiglu_forward_kernel<false, E>,
         blocks_of(p.rows, 1),
         kThreads,
         stream,
         p,
         h);
}

template <class E>
void swiglu_backward(
    const SwigluProblem<E, float>& p, const E* dh, E* dgate, E* dup, float* dweight, void* stream) {
  const bool whole = are_whole(p.F, p.gate, p.up, dh, dgate, dup);
  launch(whole ? swiglu_backward_kernel<true, E> : swiglu_backward_kernel<false, E>,
         blocks_of(p.rows, 1),
         kThreads,
         stream,
         p,
         dh,
         dgate,
         dup,
         dweight);
}

template <class E>
void add_to(CudaKernelsOf<E>& table) {
  table.swiglu_forward = swiglu_forward<E>;
  table.swiglu_backward = swiglu_backward<E>;
}

}  // namespace

void add_swiglu(CudaKernels& table) {
  add_to(table.float32);
  add_to(table.bfloat16);
}

}  // namespace braid::cuda
