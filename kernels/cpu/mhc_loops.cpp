// A block of tokens at a time, whose streams stay in the cache while they are collapsed and, in the
// backward pass, receive their gradients.
#include "kernels/cpu/mhc_loops.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "core/aligned.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/loops.h"
#include "kernels/cpu/sinkhorn_loops.h"

namespace braid::BRAID_CPU_ISA {
namespace {

constexpr int64_t kBlock = 16;  // tokens; as many as Sinkhorn takes at once

template <class T, class S>
T squares(const S* x, int64_t size) {
  return dot<T>(x, x, size);
}

template <class T>
T sigmoid(T x) {
  return 1 / (1 + exponential(-x));
}

// The sublayer's input before its norm, as it would be stored in E.
template <class E, class T>
void collapse(const E* X, const T* pre, int64_t M, int64_t D, T* x) {
  for_lanes<T>(D, [&](auto v, int64_t i) {
    using V = decltype(v);
    V sum = pre[0] * load<V>(X + i);
    for (int64_t s = 1; s < M; ++s) {
      sum += pre[s] * load<V>(X + s * D + i);
    }
    if constexpr (!std::is_same_v<E, T>) {
      E narrow[kLanesOf<V, T>];
      store(sum, narrow);
      sum = load<V>(narrow);
    }
    store(sum, x + i);
  });
}

// Logits of Sinkhorn out of the projections.
template <class T>
void mix_logits(const MhcProblem<T>& p, const T* m, int64_t tokens, T* logits) {
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t row = 2 * p.M; row < p.K; ++row) {
      logits[t * p.M * p.M + row - 2 * p.M] = m[t * p.K + row] * p.scale[2] + p.base[row];
    }
  }
}

}  // namespace

template <class E, class T>
void mhc_enter_forward(const MhcProblem<T>& p,
                       const E* X,
                       const MhcResults<E, T>& out,
                       int64_t tokens) {
  const int64_t M = p.M, D = p.D, K = p.K, size = M * D;
  AlignedVector<T> x(D), logits(kBlock * M * M);
  for (int64_t first = 0; first < tokens; first += kBlock) {
    const int64_t count = std::min(kBlock, tokens - first);
    T* m = out.m + first * K;
    for (int64_t t = 0; t < count; ++t) {
      const E* X_t = X + (first + t) * size;
      const T inverse = 1 / std::sqrt(squares<T>(X_t, size) / static_cast<T>(size) + p.norm_eps);
      out.inverse_rms[first + t] = inverse;
      T *m_t = m + t * K, *pre = out.pre + (first + t) * M;
      for (int64_t row = 0; row < K; ++row) {
        m_t[row] *= inverse;
      }
      for (int64_t s = 0; s < M; ++s) {
        pre[s] = sigmoid(m_t[s] * p.scale[0] + p.base[s]) + p.hc_eps;
        if (p.mixes()) {
          out.post[(first + t) * M + s] = 2 * sigmoid(m_t[M + s] * p.scale[1] + p.base[M + s]);
        }
      }
      collapse(X_t, pre, M, D, x.data());
      const T inverse_x = 1 / std::sqrt(squares<T>(x.data(), D) / static_cast<T>(D) + p.norm_eps);
      out.inverse_rms_of_input[first + t] = inverse_x;
      for_lanes<T>(D, [&](auto v, int64_t i) {
        using V = decltype(v);
        store(load<V>(p.norm + i) * (load<V>(x.data() + i) * inverse_x),
              out.h + (first + t) * D + i);
      });
    }
    if (p.mixes()) {
      mix_logits(p, m, count, logits.data());
      sinkhorn_forward(logits.data(), out.mix + first * M * M, count, M, p.iterations, p.hc_eps);
    }
  }
}

template <class E, class T>
void mhc_enter_backward(const MhcProblem<T>& p,
                        const E* X,
                        const MhcResults<E, T>& saved,
                        const MhcGradients<E, T>& g,
                        T* slopes,
                        T* dX_wide,
                        int64_t tokens) {
  const int64_t M = p.M, D = p.D, K = p.K, size = M * D;
  AlignedVector<T> x(D), dx(kBlock * D), logits(kBlock * M * M), t_mix(kBlock * M * M),
      shift(kBlock);
  for (int64_t first = 0; first < tokens; first += kBlock) {
    const int64_t count = std::min(kBlock, tokens - first);
    const E* X_block = X + first * size;
    const T* m = saved.m + first * K;
    if (p.mixes()) {
      mix_logits(p, m, count, logits.data());
      sinkhorn_backward(
          logits.data(), g.dmix + first * M * M, t_mix.data(), count, M, p.iterations, p.hc_eps);
    }
    for (int64_t t = 0; t < count; ++t) {
      // 1. Through the norm: dx = r (e - x^ mean(e x^)) with e = dh w, x^ = r x.
      const E *X_t = X_block + t * size, *dh = g.dh + (first + t) * D;
      const T *pre = saved.pre + (first + t) * M, *m_t = m + t * K;
      const T inverse_x = saved.inverse_rms_of_input[first + t];
      T* dx_t = dx.data() + t * D;
      ask_for(X_t + size, size);
      ask_for(dh + D, D);
      collapse(X_t, pre, M, D, x.data());
      Vector<T> lanes = {};
      T mean = 0;
      for_lanes<T>(D, [&](auto v, int64_t i) {
        using V = decltype(v);
        const V normed = load<V>(x.data() + i) * inverse_x, d = load<V>(dh + i);
        const V e = d * load<V>(p.norm + i);
        store(load<V>(g.dnorm + i) + d * normed, g.dnorm + i);
        store(normed, x.data() + i);
        store(e, dx_t + i);
        add_lanes<T>(e * normed, lanes, mean);
      });
      mean = (mean + sum_of<T>(lanes)) / static_cast<T>(D);
      for_lanes<T>(D, [&](auto v, int64_t i) {
        using V = decltype(v);
        store(inverse_x * (load<V>(dx_t + i) - load<V>(x.data() + i) * mean), dx_t + i);
      });
      // 2. Through the weights' squashing, to the projections.
      T* s_t = slopes + (first + t) * K;
      T sum = 0;
      for (int64_t row = 0; row < K; ++row) {
        T slope;
        if (row < M) {
          const T sigma = pre[row] - p.hc_eps;
          slope = dot<T>(X_t + row * D, dx_t, D) * sigma * (1 - sigma);
        } else if (row < 2 * M) {
          const T post = saved.post[(first + t) * M + row - M];
          slope = g.dpost[(first + t) * M + row - M] * post * (1 - post / 2);
        } else {
          slope = t_mix[t * M * M + row - 2 * M];
        }
        const int64_t group = p.group_of(row);
        g.dbase[row] += slope;
        g.dscale[group] += slope * m_t[row];
        const T dm = slope * p.scale[group];
        sum += dm * m_t[row];
        s_t[row] = dm * saved.inverse_rms[first + t];
      }
      const T inverse = saved.inverse_rms[first + t];
      shift[t] = -inverse * inverse / static_cast<T>(size) * sum;
    }
    // 3. dX = carried + pre dx + shift X. What comes from memory is read in its order.
    T* sums = dX_wide + first * size;
    for (int64_t t = 0; t < count; ++t) {
      for (int64_t stream = 0; stream < M; ++stream) {
        const T weight = saved.pre[(first + t) * M + stream];
        const int64_t at = t * size + stream * D;
        const E* carried = g.dcarried == nullptr ? nullptr : g.dcarried + first * size + at;
        if (carried != nullptr) {
          ask_for(carried + D, D);
        }
        for_lanes<T>(D, [&](auto v, int64_t i) {
          using V = decltype(v);
          V d = weight * load<V>(dx.data() + t * D + i) + shift[t] * load<V>(X_block + at + i);
          if (carried != nullptr) {
            d += load<V>(carried + i);
          }
          store(d, sums + at + i);
        });
      }
    }
  }
}

#define BRAID_INSTANTIATE(E, T)                                          \
  template void mhc_enter_forward(                                       \
      const MhcProblem<T>&, const E*, const MhcResults<E, T>&, int64_t); \
  template void mhc_enter_backward(const MhcProblem<T>&,                 \
                                   const E*,                             \
                                   const MhcResults<E, T>&,              \
                                   const MhcGradients<E, T>&,            \
                                   T*,                                   \
                                   T*,                                   \
                                   int64_t);
BRAID_INSTANTIATE(Bfloat16, float)
BRAID_INSTANTIATE(float, float)
BRAID_INSTANTIATE(double, double)
#undef BRAID_INSTANTIATE

}  // namespace braid::BRAID_CPU_ISA
