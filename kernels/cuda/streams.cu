// A block has a token with its four streams; a thread has eight channels of all of them at a time.
#include "kernels/cuda/device.h"
#include "kernels/cuda/tables.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = 256, kM = kCudaStreams;

template <class E>
__global__ void __launch_bounds__(kThreads)
    expand_forward_kernel(ExpandProblem<E, float> p, E* out) {
  const int64_t token = blockIdx.x;
  const E *X = p.X + token * kM * p.D, *y = p.y + token * p.D;
  const float *post = p.post + token * kM, *mix = p.mix + token * kM * kM;
  for (int64_t i = int64_t{kPiece} * thread_index(); i < p.D; i += kPiece * kThreads) {
    float x[kM][kPiece], written[kPiece];
    load<true>(y, i, p.D, written);
#pragma unroll
    for (int j = 0; j < kM; ++j) {
      load<true>(X + j * p.D, i, p.D, x[j]);
    }
#pragma unroll
    for (int k = 0; k < kM; ++k) {
      float sum[kPiece];
#pragma unroll
      for (int c = 0; c < kPiece; ++c) {
        sum[c] = post[k] * written[c];
#pragma unroll
        for (int j = 0; j < kM; ++j) {
          sum[c] += mix[j * kM + k] * x[j][c];
        }
      }
      store<true>(sum, out + (token * kM + k) * p.D, i, p.D);
    }
  }
}

/// The sums over channels: of dpost, then of dmix.
template <class E>
__global__ void __launch_bounds__(kThreads)
    expand_backward_kernel(ExpandProblem<E, float> p, const E* dout, ExpandGradients<E, float> g) {
  const int64_t token = blockIdx.x, first = token * kM * p.D;
  const float *post = p.post + token * kM, *mix = p.mix + token * kM * kM;
  float sums[kM + kM * kM] = {};
  for (int64_t i = int64_t{kPiece} * thread_index(); i < p.D; i += kPiece * kThreads) {
    float d[kM][kPiece], y[kPiece], dy[kPiece] = {};
    load<true>(p.y + token * p.D, i, p.D, y);
#pragma unroll
    for (int k = 0; k < kM; ++k) {
      load<true>(dout + first + k * p.D, i, p.D, d[k]);
#pragma unroll
      for (int c = 0; c < kPiece; ++c) {
        dy[c] += post[k] * d[k][c];
        sums[k] += y[c] * d[k][c];
      }
    }
    store<true>(dy, g.dy + token * p.D, i, p.D);
#pragma unroll
    for (int j = 0; j < kM; ++j) {
      float x[kPiece], dx[kPiece] = {};
      load<true>(p.X + first + j * p.D, i, p.D, x);
#pragma unroll
      for (int k = 0; k < kM; ++k) {
#pragma unroll
        for (int c = 0; c < kPiece; ++c) {
          dx[c] += mix[j * kM + k] * d[k][c];
          sums[kM + j * kM + k] += x[c] * d[k][c];
        }
      }
      store<true>(dx, g.dX + first + j * p.D, i, p.D);
    }
  }
  block_sums<kThreads>(sums);
  if (thread_index() == 0) {
#pragma unroll
    for (int k = 0; k < kM; ++k) {
      g.dpost[token * kM + k] = sums[k];
    }
#pragma unroll
    for (int i = 0; i < kM * kM; ++i) {
      g.dmix[token * kM * kM + i] = sums[kM + i];
    }
  }
}

template <class E>
void require_fitting(const ExpandProblem<E, float>& p) {
  require(has_cuda_streams(p.M, p.D),
          "[expand_streams] no kernel for ",
          p.M,
          " streams of ",
          p.D,
          " channels");
}

template <class E>
void expand_forward(const ExpandProblem<E, float>& p, E* out, void* stream) {
  require_fitting(p);
  require_whole(p.D, p.X, p.y, out);
  launch(expand_forward_kernel<E>, blocks_of(p.tokens, 1), kThreads, stream, p, out);
}

template <class E>
void expand_backward(const ExpandProblem<E, float>& p,
                     const E* dout,
                     const ExpandGradients<E, float>& g,
                     void* stream) {
  require_fitting(p);
  require_whole(p.D, p.X, p.y, dout, g.dX, g.dy);
  launch(expand_backward_kernel<E>, blocks_of(p.tokens, 1), kThreads, stream, p, dout, g);
}

template <class E>
void add_to(CudaKernelsOf<E>& table) {
  table.expand_forward = expand_forward<E>;
  table.expand_backward = expand_backward<E>;
}

}  // namespace

void add_streams(CudaKernels& table) {
  add_to(table.float32);
  add_to(table.bfloat16);
}

}  // namespace braid::cuda
