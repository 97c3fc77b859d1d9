// A block has a token with all its heads.
#include "kernels/cuda/device.h"
#include "kernels/cuda/tables.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = 256;

// Where heads and what passes unchanged are whole pieces: a thread has a piece at a time.
template <class E>
__global__ void __launch_bounds__(kThreads)
    rope_pieces_kernel(RopeProblem<float> p, const E* x, E* y) {
  const int64_t token = blockIdx.x, width = p.N * p.H, passed = p.H - p.P;
  const float *cos = p.cos + token * p.P / 2, *sin = p.sin + token * p.P / 2;
  const float sign = p.inverse ? -1.0f : 1.0f;
  for (int64_t i = int64_t{kPiece} * thread_index(); i < width; i += kPiece * kThreads) {
    float values[kPiece];
    load<true>(x + token * width, i, width, values);
    const auto channel = static_cast<int>(i % p.H - passed);  // of those that rotate
    if (channel >= 0) {
#pragma unroll
      for (int pair = 0; pair < kPiece / 2; ++pair) {
        const float a = values[2 * pair], b = values[2 * pair + 1];
        const float c = cos[channel / 2 + pair], s = sign * sin[channel / 2 + pair];
        values[2 * pair] = a * c - b * s;
        values[2 * pair + 1] = a * s + b * c;
      }
    }
    store<true>(values, y + token * width, i, width);
  }
}

// A thread has a channel at a time.
template <class E>
__global__ void __launch_bounds__(kThreads)
    rope_channels_kernel(RopeProblem<float> p, const E* x, E* y) {
  const int64_t token = blockIdx.x, width = p.N * p.H, passed = p.H - p.P;
  const float *cos = p.cos + token * p.P / 2, *sin = p.sin + token * p.P / 2;
  const float sign = p.inverse ? -1.0f : 1.0f;
  for (int64_t i = thread_index(); i < width; i += kThreads) {
    const int64_t channel = i % p.H - passed;
    const E* from = x + token * width + i;
    E* to = y + token * width + i;
    if (channel < 0) {
      *to = *from;
    } else {
      const float c = cos[channel / 2], s = sign * sin[channel / 2], mine = widened(*from);
      *to = narrowed<E>(channel % 2 == 0 ? mine * c - widened(from[1]) * s
                                         : widened(from[-1]) * s + mine * c);
    }
  }
}

template <class E>
void rope(const RopeProblem<float>& p, const E* x, E* y, void* stream) {
  const bool whole = are_whole(p.H, x, y) && p.P % kPiece == 0;
  launch(whole ? rope_pieces_kernel<E> : rope_channels_kernel<E>,
         blocks_of(p.tokens, 1),
         kThreads,
         stream,
         p,
         x,
         y);
}

}  // namespace

void add_rope(CudaKernels& table) {
  table.float32.rope = rope<float>;
  table.bfloat16.rope = rope<Bfloat16>;
}

}  // namespace braid::cuda
