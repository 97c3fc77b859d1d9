// A thread has eight channels of a row, which stay in registers between the sum and the result: a
// row is read once. Rows of up to 256 channels belong to a warp each, wider ones to a block.
#include "kernels/cuda/device.h"
#include "kernels/cuda/tables.h"

namespace braid::cuda {
namespace {

/// kThreads threads have a row together; kWhole as of load().
template <int kThreadsOfRow, bool kWholePieces>
struct RowLayout {
  static constexpr int kThreads = kThreadsOfRow;
  static constexpr bool kWhole = kWholePieces;
  static constexpr int kBlock = kThreads == kWarp ? 4 * kWarp : kThreads;
  static constexpr int kRows = kBlock / kThreads;  // that a block has at a time

  /// The first of this thread's channels.
  static __device__ int64_t channel() {
    return kPiece * static_cast<int64_t>(thread_index() % kThreads);
  }
  /// This thread's row, where each block has kRows of them.
  static __device__ int64_t row() {
    return static_cast<int64_t>(blockIdx.x) * kRows + thread_index() / kThreads;
  }
  static __device__ float sum(float x) {
    if constexpr (kThreads == kWarp) {
      return warp_sum(x);
    } else {
      return block_sum<kThreads>(x);
    }
  }
};

template <class Layout, class E>
__global__ void __launch_bounds__(Layout::kBlock)
    rms_norm_forward_kernel(RmsNormProblem<E, float> p, E* y, float* inverse_rms) {
  constexpr bool kWhole = Layout::kWhole;
  const int64_t row = Layout::row(), channel = Layout::channel();
  const bool exists = row < p.rows;
  float x[kPiece], weight[kPiece];
  load<kWhole>(p.x + row * p.D, channel, exists ? p.D : 0, x);
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kPiece; ++i) {
    squares += x[i] * x[i];
    weight[i] = 1;
  }
  const float inverse = rsqrtf(Layout::sum(squares) / static_cast<float>(p.D) + p.eps);
  if (!exists) {
    return;
  }
  if (channel == 0) {
    inverse_rms[row] = inverse;
  }
  if (p.weight != nullptr) {
    load<kWhole>(p.weight, channel, p.D, weight);
  }
#pragma unroll
  for (int i = 0; i < kPiece; ++i) {
    x[i] = x[i] * inverse * weight[i];
  }
  store<kWhole>(x, y + row * p.D, channel, p.D);
}

/// dx = r (e - x^ mean(e x^)) with e = dy w, x^ = r x, and part by part dw = sum dy x^. A part is
/// every parts-th row, so that sums have one order.
template <class Layout, class E>
__global__ void __launch_bounds__(Layout::kBlock)
    rms_norm_backward_kernel(RmsNormProblem<E, float> p,
                             const float* inverse_rms,
                             const E* dy,
                             E* dx,
                             float* dweight_parts,
                             int64_t parts) {
  constexpr bool kWhole = Layout::kWhole;
  const int64_t part = Layout::row(), channel = Layout::channel();
  float weight[kPiece], dweight[kPiece] = {};
#pragma unroll
  for (int i = 0; i < kPiece; ++i) {
    weight[i] = 1;
  }
  if (p.weight != nullptr) {
    load<kWhole>(p.weight, channel, p.D, weight);
  }
  // All threads of a block take as many steps, for the barriers of the sum.
  for (int64_t first = 0; first < p.rows; first += parts) {
    const int64_t row = first + part;
    const bool exists = part < parts && row < p.rows;
    const int64_t size = exists ? p.D : 0;
    const float inverse = exists ? inverse_rms[row] : 0;
    float x[kPiece], e[kPiece];
    load<kWhole>(p.x + row * p.D, channel, size, x);
    load<kWhole>(dy + row * p.D, channel, size, e);
    float dot = 0;
#pragma unroll
    for (int i = 0; i < kPiece; ++i) {
      x[i] *= inverse;
      dweight[i] += e[i] * x[i];
      e[i] *= weight[i];
      dot += e[i] * x[i];
    }
    const float mean = Layout::sum(dot) / static_cast<float>(p.D);
#pragma unroll
    for (int i = 0; i < kPiece; ++i) {
      e[i] = inverse * (e[i] - x[i] * mean);
    }
    store<kWhole>(e, dx + row * p.D, channel, size);
  }
  if (dweight_parts != nullptr && part < parts) {
    store<kWhole>(dweight, dweight_parts + part * p.D, channel, p.D);
  }
}

/// Calls f(RowLayout<...>{}) with the layout of rows of D channels.
template <class F>
void with_layout(int64_t D, bool whole, const F& f) {
  require(D <= kCudaRmsNormWidth, "[rms_norm] rows have at most ", kCudaRmsNormWidth, " channels");
  if (!whole) {
    D <= 256 ? f(RowLayout<32, false>{}) : f(RowLayout<1024, false>{});
  } else if (D <= 256) {
    f(RowLayout<32, true>{});
  } else if (D <= 512) {
    f(RowLayout<64, true>{});
  } else if (D <= 1024) {
    f(RowLayout<128, true>{});
  } else if (D <= 2048) {
    f(RowLayout<256, true>{});
  } else if (D <= 4096) {
    f(RowLayout<512, true>{});
  } else {
    f(RowLayout<1024, true>{});
  }
}

template <class E>
void rms_norm_forward(const RmsNormProblem<E, float>& p, E* y, float* inverse_rms, void* stream) {
  with_layout(p.D, are_whole(p.D, p.x, p.weight, y), [&](auto layout) {
    using Layout = decltype(layout);
    launch(rms_norm_forward_kernel<Layout, E>,
           blocks_of(p.rows, Layout::kRows),
           Layout::kBlock,
           stream,
           p,
           y,
           inverse_rms);
  });
}

template <class E>
void rms_norm_backward(const RmsNormProblem<E, float>& p,
                       const float* inverse_rms,
                       const E* dy,
                       E* dx,
                       float* dweight_parts,
                       int64_t parts,
                       void* stream) {
  with_layout(p.D, are_whole(p.D, p.x, p.weight, dy, dx, dweight_parts), [&](auto layout) {
    using Layout = decltype(layout);
    launch(rms_norm_backward_kernel<Layout, E>,
           blocks_of(parts, Layout::kRows),
           Layout::kBlock,
           stream,
           p,
           inverse_rms,
           dy,
           dx,
           dweight_parts,
           parts);
  });
}

template <class E>
void add_to(CudaKernelsOf<E>& table) {
  table.rms_norm_forward = rms_norm_forward<E>;
  table.rms_norm_backward = rms_norm_backward<E>;
}

}  // namespace

void add_rms_norm(CudaKernels& table) {
  add_to(table.float32);
  add_to(table.bfloat16);
}

}  // namespace braid::cuda
