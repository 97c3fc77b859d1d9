// mhc.h for four streams. A block has four tokens, so that fn, which is larger than their streams,
// is read once for all of them; sums over channels stay in registers until the end. What a block
// reads again (streams, between a sum and what needs it) comes from the L2 cache.
//
// Local letters: K rows of fn, base and scale: M of pre, M of post, M * M of the matrix.
#include "kernels/cuda/device.h"
#include "kernels/cuda/sinkhorn_matrix.h"
#include "kernels/cuda/tables.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp, kM = kCudaStreams;
constexpr int kTokens = 4;  // of a block

/// Rows of fn: with or without those of post and matrix.
template <bool kMixes>
constexpr int kRowsOf = kMixes ? (2 + kM) * kM : kM;

/// The scale of a row: of pre, post or matrix.
__device__ int group_of(int row) {
  return row < kM ? 0 : row < 2 * kM ? 1 : 2;
}

__device__ float sigmoid(float x) {
  return 1.0f / (1.0f + expf(-x));
}

/// x = sum_s pre[s] X[s] of eight channels, in the type of the streams.
template <class E>
__device__ void collapse(const E* X, const float* pre, int64_t i, int64_t D, float (&x)[kPiece]) {
  float stream[kPiece];
#pragma unroll
  for (int s = 0; s < kM; ++s) {
    load<true>(X + s * D, i, D, stream);
#pragma unroll
    for (int c = 0; c < kPiece; ++c) {
      x[c] = (s == 0 ? 0.0f : x[c]) + pre[s] * stream[c];
    }
  }
#pragma unroll
  for (int c = 0; c < kPiece; ++c) {
    x[c] = widened(narrowed<E>(x[c]));
  }
}

/// The matrix that Sinkhorn starts from, of a token's projections m.
__device__ SinkhornMatrix<kM> mixing(const MhcProblem<float>& p, const float* m) {
  const float scale = p.scale[2];
  const float* base = p.base + 2 * kM;
  return {[=](int i, int j) { return m[2 * kM + i * kM + j] * scale + base[i * kM + j]; },
          p.hc_eps};
}

// ---- Forward ----

/// m = f fn^T and the sum of f^2 of the block's tokens, of one warp's channels.
template <int kRows, class E>
__device__ void project(const MhcProblem<float>& p,
                        const E* X,
                        int count,
                        float (&m)[kTokens][kRows],
                        float (&squares)[kTokens]) {
  const int64_t size = kM * p.D;
  for (int64_t i = int64_t{kPiece} * thread_index(); i < size; i += kPiece * kThreads) {
    float f[kTokens][kPiece];
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      load<true>(X + t * size, i, t < count ? size : 0, f[t]);
#pragma unroll
      for (int c = 0; c < kPiece; ++c) {
        squares[t] += f[t][c] * f[t][c];
      }
    }
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      float fn[kPiece];
      load<true>(p.fn + row * size, i, size, fn);
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
#pragma unroll
        for (int c = 0; c < kPiece; ++c) {
          m[t][row] += f[t][c] * fn[c];
        }
      }
    }
  }
}

template <bool kMixes, class E>
__global__ void __launch_bounds__(kThreads) enter_forward_kernel(MhcProblem<float> p,
                                                                 const E* all_X,
                                                                 MhcResults<E, float> out,
                                                                 int64_t tokens) {
  constexpr int kRows = kRowsOf<kMixes>;
  const int64_t first = int64_t{blockIdx.x} * kTokens, size = kM * p.D;
  const int count = static_cast<int>(tokens - first < kTokens ? tokens - first : kTokens);
  const int thread = thread_index(), warp = thread / kWarp;
  const E* X = all_X + first * size;

  // 1. Projections, by warps, then of the block, over the root of the mean square.
  // (of the tokens by rows, then the tokens' squares)
  constexpr int kSums = kTokens * (kRows + 1), kGroups = (kSums + kWarp - 1) / kWarp;
  BRAID_SHARED(float[kWarps][kGroups * kWarp], parts);
  BRAID_SHARED(float[kTokens][kRows], ms);
  {
    float m[kTokens][kRows] = {}, squares[kTokens] = {};
    project(p, X, count, m, squares);
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      float of_group[kWarp] = {};
#pragma unroll
      for (int i = 0; i < kWarp; ++i) {
        const int number = group * kWarp + i;
        if (number < kTokens * kRows) {
          of_group[i] = m[number / kRows][number % kRows];
        } else if (number < kSums) {
          of_group[i] = squares[number - kTokens * kRows];
        }
      }
      parts[warp][group * kWarp + thread % kWarp] = warp_sum_of_each(of_group);
    }
  }
  __syncthreads();
  if (thread < kTokens * kRows && thread / kRows < count) {
    const int t = thread / kRows, row = thread % kRows;
    float m = 0, squares = 0;
    for (int w = 0; w < kWarps; ++w) {
      m += parts[w][thread];
      squares += parts[w][kTokens * kRows + t];
    }
    const float inverse = rsqrtf(squares / static_cast<float>(size) + p.norm_eps);
    ms[t][row] = m * inverse;
    out.m[(first + t) * kRows + row] = m * inverse;
    if (row == 0) {
      out.inverse_rms[first + t] = inverse;
    }
  }
  __syncthreads();

  // 2. Weights of the streams.
  BRAID_SHARED(float[kTokens][kM], pres);
  if (thread < count * kM) {
    const int t = thread / kM, s = thread % kM;
    const float pre = sigmoid(ms[t][s] * p.scale[0] + p.base[s]) + p.hc_eps;
    pres[t][s] = pre;
    out.pre[first * kM + thread] = pre;
    if constexpr (kMixes) {
      out.post[first * kM + thread] = 2.0f * sigmoid(ms[t][kM + s] * p.scale[1] + p.base[kM + s]);
    }
  }
  __syncthreads();

  // 3. The input: what every thread has written to h it reads again to norm it.
  float squares[kTokens] = {};
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
    for (int64_t i = int64_t{kPiece} * thread; t < count && i < p.D; i += kPiece * kThreads) {
      float x[kPiece];
      collapse(X + t * size, pres[t], i, p.D, x);
#pragma unroll
      for (int c = 0; c < kPiece; ++c) {
        squares[t] += x[c] * x[c];
      }
      store<true>(x, out.h + (first + t) * p.D, i, p.D);
    }
  }
  block_sums<kThreads>(squares);
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
    const float inverse = rsqrtf(squares[t] / static_cast<float>(p.D) + p.norm_eps);
    if (thread == 0 && t < count) {
      out.inverse_rms_of_input[first + t] = inverse;
    }
    for (int64_t i = int64_t{kPiece} * thread; t < count && i < p.D; i += kPiece * kThreads) {
      float x[kPiece], norm[kPiece];
      E* h = out.h + (first + t) * p.D;
      load<true>(h, i, p.D, x);
      load<true>(p.norm, i, p.D, norm);
#pragma unroll
      for (int c = 0; c < kPiece; ++c) {
        x[c] = norm[c] * (x[c] * inverse);
      }
      store<true>(x, h, i, p.D);
    }
  }

  // 4. The matrix, a warp's first lane for each token.
  if constexpr (kMixes) {
    if (thread % kWarp == 0 && warp < count) {
      auto matrix = mixing(p, ms[warp]);
      matrix.run(p.iterations);
#pragma unroll
      for (int i = 0; i < kM * kM; ++i) {
        out.mix[(first + warp) * kM * kM + i] = matrix.at(i / kM, i % kM);
      }
    }
  }
}

// ---- Backward ----

/// What the gradient of a token's input needs: dx = r (e - x^ mean(e x^)) with e = dh norm, x^ = r
/// x.
template <class E>
struct InputGradient {
  const E *X, *dh;
  const float *pre, *norm;
  int64_t D;
  float inverse, mean = 0;

  /// e and x^ of eight channels.
  __device__ void factors(int64_t i, float (&e)[kPiece], float (&normed)[kPiece]) const {
    float weight[kPiece];
    collapse(X, pre, i, D, normed);
    load<true>(dh, i, D, e);
    load<true>(norm, i, D, weight);
#pragma unroll
    for (int c = 0; c < kPiece; ++c) {
      normed[c] *= inverse;
      e[c] *= weight[c];
    }
  }
  __device__ void of_channels(int64_t i, float (&dx)[kPiece]) const {
    float normed[kPiece];
    factors(i, dx, normed);
#pragma unroll
    for (int c = 0; c < kPiece; ++c) {
      dx[c] = inverse * (dx[c] - normed[c] * mean);
    }
  }
};

/// dX, and for the gradients of parameters slopes [2, tokens, K]: of a = m scale + base, and those
/// of the projections before they are divided by the root of the mean square.
template <bool kMixes, class E>
__global__ void __launch_bounds__(kThreads) enter_backward_kernel(MhcProblem<float> p,
                                                                  const E* all_X,
                                                                  MhcResults<E, float> saved,
                                                                  MhcGradients<E, float> g,
                                                                  int64_t tokens,
                                                                  float* slopes) {
  constexpr int kRows = kRowsOf<kMixes>;
  const int64_t first = int64_t{blockIdx.x} * kTokens, size = kM * p.D;
  const int count = static_cast<int>(tokens - first < kTokens ? tokens - first : kTokens);
  const int thread = thread_index(), warp = thread / kWarp;
  const E* X = all_X + first * size;
  BRAID_SHARED(float[kTokens], means);
  const auto input = [&](int t) {
    return InputGradient<E>{X + t * size,
                            g.dh + (first + t) * p.D,
                            saved.pre + (first + t) * kM,
                            p.norm,
                            p.D,
                            saved.inverse_rms_of_input[first + t]};
  };

  // 1. mean(e x^), then the products of the streams with dx.
  float dots[kTokens] = {};
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
    for (int64_t i = int64_t{kPiece} * thread; t < count && i < p.D; i += kPiece * kThreads) {
      float e[kPiece], normed[kPiece];
      input(t).factors(i, e, normed);
#pragma unroll
      for (int c = 0; c < kPiece; ++c) {
        dots[t] += e[c] * normed[c];
      }
    }
  }
  block_sums<kThreads>(dots);
  if (thread == 0) {
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      means[t] = dots[t] / static_cast<float>(p.D);
    }
  }
  __syncthreads();
  float dpre[kTokens * kM] = {};
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
    for (int64_t i = int64_t{kPiece} * thread; t < count && i < p.D; i += kPiece * kThreads) {
      float dx[kPiece];
      auto of_input = input(t);
      of_input.mean = means[t];
      of_input.of_channels(i, dx);
#pragma unroll
      for (int s = 0; s < kM; ++s) {
        float x[kPiece];
        load<true>(of_input.X + s * p.D, i, p.D, x);
#pragma unroll
        for (int c = 0; c < kPiece; ++c) {
          dpre[t * kM + s] += x[c] * dx[c];
        }
      }
    }
  }
  block_sums<kThreads>(dpre);

  // 2. Through the squashing of weights and Sinkhorn to the projections.
  BRAID_SHARED(float[kTokens][kRows], of_rows);  // slopes, then those of projections
  BRAID_SHARED(float[kTokens], shifts);
  if (thread == 0) {
#pragma unroll
    for (int i = 0; i < kTokens * kM; ++i) {
      of_rows[i / kM][i % kM] = dpre[i];
    }
  }
  if constexpr (kMixes) {
    BRAID_SHARED(float[kTokens][kMaxSinkhornSteps][kM], factors);
    if (thread % kWarp == 0 && warp < count) {
      float gradient[kM][kM];
#pragma unroll
      for (int i = 0; i < kM * kM; ++i) {
        gradient[i / kM][i % kM] = g.dmix[(first + warp) * kM * kM + i];
      }
      mixing(p, saved.m + (first + warp) * kRows)
          .run_backward(p.iterations, gradient, [&](int step, int i) -> float& {
            return factors[warp][step][i];
          });
#pragma unroll
      for (int i = 0; i < kM * kM; ++i) {
        of_rows[warp][2 * kM + i] = gradient[i / kM][i % kM];
      }
    }
  }
  __syncthreads();
  if (thread < count * kRows) {
    const int t = thread / kRows, row = thread % kRows;
    const int64_t at = first * kRows + thread;
    float slope = of_rows[t][row];
    if (row < kM) {
      const float sigma = saved.pre[(first + t) * kM + row] - p.hc_eps;
      slope *= sigma * (1.0f - sigma);
    } else if (row < 2 * kM) {
      const float post = saved.post[(first + t) * kM + row - kM];
      slope = g.dpost[(first + t) * kM + row - kM] * post * (1.0f - post / 2.0f);
    }
    const float dm = slope * p.scale[group_of(row)] * saved.inverse_rms[first + t];
    of_rows[t][row] = dm;
    slopes[at] = slope;
    slopes[tokens * kRows + at] = dm;
  }
  __syncthreads();
  if (thread < count) {
    float sum = 0;
    for (int row = 0; row < kRows; ++row) {
      sum += of_rows[thread][row] * saved.m[(first + thread) * kRows + row];
    }
    shifts[thread] = -saved.inverse_rms[first + thread] / static_cast<float>(size) * sum;
  }
  __syncthreads();

  // 3. dX = carried + pre dx + shift X + (slopes of projections) fn.
  for (int64_t i = int64_t{kPiece} * thread; i < p.D; i += kPiece * kThreads) {
    float dx[kTokens][kPiece];
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      if (t < count) {
        auto of_input = input(t);
        of_input.mean = means[t];
        of_input.of_channels(i, dx[t]);
      }
    }
    for (int s = 0; s < kM; ++s) {
      float sums[kTokens][kPiece] = {};
#pragma unroll 4
      for (int row = 0; row < kRows; ++row) {
        float fn[kPiece];
        load<true>(p.fn + row * size + s * p.D, i, p.D, fn);
#pragma unroll
        for (int t = 0; t < kTokens; ++t) {
          const float dm = t < count ? of_rows[t][row] : 0.0f;
#pragma unroll
          for (int c = 0; c < kPiece; ++c) {
            sums[t][c] += dm * fn[c];
          }
        }
      }
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        if (t < count) {
          const int64_t stream = (first + t) * size + s * p.D;
          const float pre = saved.pre[(first + t) * kM + s], shift = shifts[t];
          float x[kPiece], carried[kPiece] = {};
          load<true>(all_X + stream, i, p.D, x);
          if (g.dcarried != nullptr) {
            load<true>(g.dcarried + stream, i, p.D, carried);
          }
#pragma unroll
          for (int c = 0; c < kPiece; ++c) {
            sums[t][c] += carried[c] + pre * dx[t][c] + shift * x[c];
          }
          store<true>(sums[t], g.dX + stream, i, p.D);
        }
      }
    }
  }
}

constexpr int kColumns = 128, kAtOnce = 16;  // channels of a block; tokens whose numbers it shares

/// Of the tokens of a part (blockIdx.y): dfn and dnorm of kColumns channels, a thread each; dbase
/// and dscale by the first of these blocks.
template <bool kMixes, class E>
__global__ void __launch_bounds__(kColumns) parameters_kernel(MhcProblem<float> p,
                                                              const E* X,
                                                              MhcResults<E, float> saved,
                                                              MhcGradients<E, float> g,
                                                              MhcParts parts,
                                                              int64_t stride,
                                                              const float* slopes) {
  constexpr int kRows = kRowsOf<kMixes>;
  const int64_t size = kM * p.D, part = blockIdx.y;
  const int64_t begin = part * parts.size,
                end = parts.tokens - begin < parts.size ? parts.tokens : begin + parts.size;
  const int64_t channel = int64_t{blockIdx.x} * kColumns + thread_index();
  const float* of_projections = slopes + parts.tokens * kRows;
  BRAID_SHARED(float[kAtOnce][kRows], dms);
  BRAID_SHARED(float[kAtOnce][kM], pres);
  float dfn[kRows][kM] = {}, dnorm = 0;
  for (int64_t first = begin; first < end; first += kAtOnce) {
    const int count = static_cast<int>(end - first < kAtOnce ? end - first : kAtOnce);
    __syncthreads();  // the numbers of the tokens before have been read
    for (int i = thread_index(); i < count * kRows; i += kColumns) {
      dms[i / kRows][i % kRows] = of_projections[first * kRows + i];
    }
    for (int i = thread_index(); i < count * kM; i += kColumns) {
      pres[i / kM][i % kM] = saved.pre[first * kM + i];
    }
    __syncthreads();
    for (int t = 0; t < count && channel < p.D; ++t) {
      const E* streams = X + (first + t) * size + channel;
      float f[kM], x = 0;
#pragma unroll
      for (int s = 0; s < kM; ++s) {
        f[s] = widened(streams[s * p.D]);
        x += pres[t][s] * f[s];
      }
      const float normed = widened(narrowed<E>(x)) * saved.inverse_rms_of_input[first + t];
      dnorm += widened(g.dh[(first + t) * p.D + channel]) * normed;
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
#pragma unroll
        for (int s = 0; s < kM; ++s) {
          dfn[row][s] += dms[t][row] * f[s];
        }
      }
    }
  }
  if (channel < p.D) {
    g.dnorm[part * stride + channel] = dnorm;
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
#pragma unroll
      for (int s = 0; s < kM; ++s) {
        g.dfn[part * stride + row * size + s * p.D + channel] = dfn[row][s];
      }
    }
  }
  BRAID_SHARED(float[kRows], dscales);
  if (blockIdx.x == 0 && thread_index() < kRows) {
    const int row = thread_index();
    float dbase = 0, dscale = 0;
    for (int64_t token = begin; token < end; ++token) {
      const float slope = slopes[token * kRows + row];
      dbase += slope;
      dscale += slope * saved.m[token * kRows + row];
    }
    g.dbase[part * stride + row] = dbase;
    dscales[row] = dscale;
  }
  __syncthreads();
  if (blockIdx.x == 0 && thread_index() == 0) {
    float of_groups[3] = {};
    for (int row = 0; row < kRows; ++row) {
      of_groups[group_of(row)] += dscales[row];
    }
    for (int group = 0; group < (kMixes ? 3 : 1); ++group) {
      g.dscale[part * stride + group] = of_groups[group];
    }
  }
}

// ---- The table's functions ----

void require_fitting(const MhcProblem<float>& p) {
  require(has_cuda_streams(p.M, p.D, p.iterations),
          "[enter_streams] no kernel for ",
          p.M,
          " streams of ",
          p.D,
          " channels and ",
          p.iterations,
          " iterations");
}

template <bool kMixes, class E>
void forward(const MhcProblem<float>& p,
             const E* X,
             const MhcResults<E, float>& out,
             int64_t tokens,
             void* stream) {
  require_whole(p.D, X, p.fn, p.norm, out.h);
  launch(enter_forward_kernel<kMixes, E>,
         blocks_of(tokens, kTokens),
         kThreads,
         stream,
         p,
         X,
         out,
         tokens);
}

template <bool kMixes, class E>
void backward(const MhcProblem<float>& p,
              const E* X,
              const MhcResults<E, float>& saved,
              const MhcGradients<E, float>& g,
              const MhcParts& parts,
              int64_t stride,
              float* slopes,
              void* stream) {
  require_whole(p.D, X, p.fn, p.norm, g.dh, g.dcarried, g.dX);
  launch(enter_backward_kernel<kMixes, E>,
         blocks_of(parts.tokens, kTokens),
         kThreads,
         stream,
         p,
         X,
         saved,
         g,
         parts.tokens,
         slopes);
  launch(parameters_kernel<kMixes, E>,
         dim3(blocks_of(p.D, kColumns), static_cast<unsigned>(parts.count())),
         kColumns,
         stream,
         p,
         X,
         saved,
         g,
         parts,
         stride,
         slopes);
}

template <class E>
void mhc_enter_forward(const MhcProblem<float>& p,
                       const E* X,
                       const MhcResults<E, float>& out,
                       int64_t tokens,
                       void* stream) {
  require_fitting(p);
  (p.mixes() ? forward<true, E> : forward<false, E>)(p, X, out, tokens, stream);
}

template <class E>
void mhc_enter_backward(const MhcProblem<float>& p,
                        const E* X,
                        const MhcResults<E, float>& saved,
                        const MhcGradients<E, float>& g,
                        const MhcParts& parts,
                        int64_t stride,
                        float* slopes,
                        void* stream) {
  require_fitting(p);
  (p.mixes() ? backward<true, E>
             : backward<false, E>)(p, X, saved, g, parts, stride, slopes, stream);
}

template <class E>
void add_to(CudaKernelsOf<E>& table) {
  table.mhc_enter_forward = mhc_enter_forward<E>;
  table.mhc_enter_backward = mhc_enter_backward<E>;
}

}  // namespace

void add_mhc(CudaKernels& table) {
  add_to(table.float32);
  add_to(table.bfloat16);
}

}  // namespace braid::cuda
