// A block of tokens at a time: its streams are read from memory once and stay in the cache while
// they are projected, collapsed and, in the backward pass, receive their gradients.
#include "kernels/cpu/mhc_loops.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#include "kernels/cpu/lanes.h"
#include "kernels/cpu/loops.h"
#include "kernels/cpu/sinkhorn_loops.h"

namespace braid::BRAID_CPU_ISA {
namespace {

constexpr int64_t kBlock = 16;  // tokens; as many as Sinkhorn takes at once

// Sums that stay in registers: of kTokens tokens with kRows rows of fn, and of kTall rows with
// kWide vectors of columns.
#if defined(__AVX512F__)
constexpr int kTokens = 4, kRows = 6, kTall = 4, kWide = 4;
#else
constexpr int kTokens = 2, kRows = 6, kTall = 4, kWide = 3;
#endif

/// Rows of a block in the wide type: the rows themselves, or a copy.
template <class E, class T>
class WideRows {
 public:
  const T* read(const E* rows, int64_t size) {
    if constexpr (std::is_same_v<E, T>) {
      return rows;
    } else {
      copy_.resize(size);
      for_lanes<T>(
          size, [&](auto v, int64_t i) { store(load<decltype(v)>(rows + i), copy_.data() + i); });
      return copy_.data();
    }
  }

 private:
  std::vector<T> copy_;
};

// out[t * stride + r] = X[t] . fn[r] for kT tokens and kR rows.
template <int kT, int kR, class T>
void project(const T* X, const T* fn, int64_t size, T* out, int64_t stride) {
  Vector<T> sums[kT][kR] = {};
  constexpr int64_t kLanes = kLanesOf<Vector<T>, T>;
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    Vector<T> x[kT];
    for (int t = 0; t < kT; ++t) {
      x[t] = load<Vector<T>>(X + t * size + i);
    }
    for (int r = 0; r < kR; ++r) {
      const auto f = load<Vector<T>>(fn + r * size + i);
      for (int t = 0; t < kT; ++t) {
        sums[t][r] += x[t] * f;
      }
    }
  }
  for (int t = 0; t < kT; ++t) {
    for (int r = 0; r < kR; ++r) {
      T sum = sum_of<T>(sums[t][r]);
      for (int64_t j = i; j < size; ++j) {
        sum += X[t * size + j] * fn[r * size + j];
      }
      out[t * stride + r] = sum;
    }
  }
}

template <int kT, class T>
void project_rows(const T* X, const T* fn, int64_t size, int64_t K, T* out) {
  int64_t r = 0;
  for (; r + kRows <= K; r += kRows) {
    project<kT, kRows>(X, fn + r * size, size, out + r, K);
  }
  for (; r < K; ++r) {
    project<kT, 1>(X, fn + r * size, size, out + r, K);
  }
}

// A token's products do not depend on which tokens it is multiplied with: each is a sum of its own.
template <class T>
void project_block(const T* X, const T* fn, int64_t tokens, int64_t size, int64_t K, T* out) {
  int64_t t = 0;
  for (; t + kTokens <= tokens; t += kTokens) {
    project_rows<kTokens>(X + t * size, fn, size, K, out + t * K);
  }
  for (; t < tokens; ++t) {
    project_rows<1>(X + t * size, fn, size, K, out + t * K);
  }
}

template <class T>
T squares(const T* x, int64_t size) {
  return dot<T>(x, x, size);
}

template <class T>
T sigmoid(T x) {
  return 1 / (1 + exponential(-x));
}

// The sublayer's input before its norm, as it would be stored in E.
template <class E, class S, class T>
void collapse(const S* X, const T* pre, int64_t M, int64_t D, T* x) {
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

// A factor [m, k] whose element (i, p) is at i * row_stride + p * column_stride.
template <class T>
struct Factor {
  const T* data;
  int64_t row_stride, column_stride, m, k;

  T at(int64_t i, int64_t p) const { return data[i * row_stride + p * column_stride]; }
};

template <int kValue>
using Constant = std::integral_constant<int, kValue>;

// Calls f(j, Constant<vectors>, V{}) for stretches of n columns: kWide vectors, a vector, a number.
template <class T, class F>
void for_columns(int64_t n, const F& f) {
  constexpr int64_t kLanes = kLanesOf<Vector<T>, T>;
  int64_t j = 0;
  for (; j + kWide * kLanes <= n; j += kWide * kLanes) {
    f(j, Constant<kWide>{}, Vector<T>{});
  }
  for (; j + kLanes <= n; j += kLanes) {
    f(j, Constant<1>{}, Vector<T>{});
  }
  for (; j < n; ++j) {
    f(j, Constant<1>{}, T{});
  }
}

// Calls f(i, Constant<rows>) for stretches of m rows: kTall, then single ones.
template <class F>
void for_rows(int64_t m, const F& f) {
  int64_t i = 0;
  for (; i + kTall <= m; i += kTall) {
    f(i, Constant<kTall>{});
  }
  for (; i < m; ++i) {
    f(i, Constant<1>{});
  }
}

// Sums of products A B for a few rows; B is not packed. E, the type of the activations that they
// are for, chooses how they are multiplied.
template <class E, class T>
class Product {
 public:
  explicit Product(const Factor<T>& a) : a_(a) {}

  /// to(from(V{}, i, j) + A B at (i, j), i, j) for rows i and columns j < n of a vector or a number
  /// each; rows of B are ld apart.
  template <class S, class From, class To>
  void run(const S* b, int64_t ld, int64_t n, const From& from, const To& to) {
    for_columns<T>(n, [&](int64_t j, auto across, auto v) {
      for_rows(a_.m, [&](int64_t i, auto rows) {
        tile<rows, across, decltype(v)>(b + j, ld, i, j, from, to);
      });
    });
  }

 private:
  template <int kM, int kN, class V, class S, class From, class To>
  void tile(const S* b, int64_t ld, int64_t row, int64_t column, const From& from, const To& to) {
    constexpr int64_t kLanes = kLanesOf<V, T>;
    V sums[kM][kN];
    for_each_sum<kM, kN>([&](auto i, auto j) __attribute__((always_inline)) {
      sums[i][j] = from(V{}, row + i, column + j * kLanes);
    });
    for (int64_t p = 0; p < a_.k; ++p) {
      V b_p[kN];
      T factor = 0;
      for_each_sum<1, kN>([&](auto, auto j) __attribute__((always_inline)) {
        b_p[j] = load<V>(b + p * ld + j * kLanes);
      });
      for_each_sum<kM, kN>([&](auto i, auto j) __attribute__((always_inline)) {
        if constexpr (j == 0) {
          factor = a_.at(row + i, p);
        }
        sums[i][j] += factor * b_p[j];
      });
    }
    for_each_sum<kM, kN>([&](auto i, auto j) __attribute__((always_inline)) {
      to(sums[i][j], row + i, column + j * kLanes);
    });
  }

  Factor<T> a_;
};

#if defined(__AVX512BF16__)

// Sixteen neighbors as bfloat16.
inline Halves narrow16(const Bfloat16* from) {
  Halves halves;
  std::memcpy(&halves, from, sizeof halves);
  return halves;
}
inline Halves narrow16(const float* from) {
  return rounded(load<Vector<float>>(from));
}

// Sixteen pairs, each of one element of both.
template <int... kLane>
__m512bh paired(const Halves& first, const Halves& second, std::integer_sequence<int, kLane...>) {
  constexpr int kHalves = sizeof...(kLane) / 2;
  return (__m512bh)__builtin_shufflevector(first, second, (kLane / 2 + kLane % 2 * kHalves)...);
}

// Of bfloat16 activations: both factors rounded, two products along k at a time; what is left over
// of the columns after whole vectors is not rounded.
template <>
class Product<Bfloat16, float> {
 public:
  explicit Product(const Factor<float>& a)
      : a_(a), pairs_((a.k + 1) / 2), left_(a.m * pairs_), panel_(pairs_) {
    const auto half = [&](int64_t i, int64_t p) -> uint32_t {
      Bfloat16 narrow{};
      if (p < a.k) {
        store(a.at(i, p), &narrow);
      }
      return narrow.bits;
    };
    for (int64_t i = 0; i < a.m; ++i) {
      for (int64_t p = 0; p < pairs_; ++p) {
        left_[i * pairs_ + p] = half(i, 2 * p) | half(i, 2 * p + 1) << 16;
      }
    }
  }

  template <class S, class From, class To>
  void run(const S* b, int64_t ld, int64_t n, const From& from, const To& to) {
    for_columns<float>(n, [&](int64_t j, auto across, auto v) {
      if constexpr (sizeof v == sizeof(float)) {
        for (int64_t i = 0; i < a_.m; ++i) {
          float sum = from(float{}, i, j);
          for (int64_t p = 0; p < a_.k; ++p) {
            sum += a_.at(i, p) * load<float>(b + p * ld + j);
          }
          to(sum, i, j);
        }
      } else {
        pack<across>(b + j, ld);
        for_rows(a_.m, [&](int64_t i, auto rows) { tile<rows, across>(i, j, from, to); });
      }
    });
  }

 private:
  struct PairOfRows {
    __m512bh pairs[kWide];
  };

  template <int kN, class S>
  void pack(const S* b, int64_t ld) {
    for (int64_t p = 0; p < a_.k; p += 2, b += 2 * ld) {
      for (int j = 0; j < kN; ++j) {
        const Halves second = p + 1 < a_.k ? narrow16(b + ld + j * 16) : Halves{};
        panel_[p / 2].pairs[j] =
            paired(narrow16(b + j * 16), second, std::make_integer_sequence<int, 32>{});
      }
    }
  }

  template <int kM, int kN, class From, class To>
  void tile(int64_t row, int64_t column, const From& from, const To& to) {
    __m512 sums[kM][kN], factor{};
    for_each_sum<kM, kN>([&](auto i, auto j) __attribute__((always_inline)) {
      sums[i][j] = (__m512)from(Vector<float>{}, row + i, column + j * 16);
    });
    for (int64_t p = 0; p < pairs_; ++p) {
      for_each_sum<kM, kN>([&](auto i, auto j) __attribute__((always_inline)) {
        if constexpr (j == 0) {
          const auto pair = static_cast<int>(left_[(row + i) * pairs_ + p]);
          factor = (__m512)_mm512_set1_epi32(pair);
        }
        sums[i][j] = _mm512_dpbf16_ps(sums[i][j], (__m512bh)factor, panel_[p].pairs[j]);
      });
    }
    for_each_sum<kM, kN>([&](auto i, auto j) __attribute__((always_inline)) {
      to((Vector<float>)sums[i][j], row + i, column + j * 16);
    });
  }

  Factor<float> a_;
  int64_t pairs_;
  std::vector<uint32_t> left_;     // [m, pairs]
  std::vector<PairOfRows> panel_;  // of B
};

#endif

}  // namespace

template <class E, class T>
void mhc_enter_forward(const MhcProblem<T>& p,
                       const E* X,
                       const MhcResults<E, T>& out,
                       int64_t tokens) {
  const int64_t M = p.M, D = p.D, K = p.K, size = M * D;
  WideRows<E, T> wide;
  std::vector<T> x(D), logits(kBlock * M * M);
  for (int64_t first = 0; first < tokens; first += kBlock) {
    const int64_t count = std::min(kBlock, tokens - first);
    const T* X_block = wide.read(X + first * size, count * size);
    T* m = out.m + first * K;
    project_block(X_block, p.fn, count, size, K, m);
    for (int64_t t = 0; t < count; ++t) {
      const T inverse =
          1 / std::sqrt(squares(X_block + t * size, size) / static_cast<T>(size) + p.norm_eps);
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
      collapse<E>(X_block + t * size, pre, M, D, x.data());
      const T inverse_x = 1 / std::sqrt(squares(x.data(), D) / static_cast<T>(D) + p.norm_eps);
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
                        int64_t tokens) {
  const int64_t M = p.M, D = p.D, K = p.K, size = M * D;
  std::vector<T> x(D), dx(kBlock * D), logits(kBlock * M * M), t_mix(kBlock * M * M), s(kBlock * K),
      shift(kBlock), wide_dX;
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
      collapse<E>(X_t, pre, M, D, x.data());
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
      T* s_t = s.data() + t * K;
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
    // 3. dX = carried + pre dx + shift X + s fn, in the wide type until it is whole. What comes
    // from memory is read in its order.
    E* dX = g.dX + first * size;
    T* sums;
    if constexpr (std::is_same_v<E, T>) {
      sums = dX;
    } else {
      wide_dX.resize(kBlock * size);
      sums = wide_dX.data();
    }
    for (int64_t t = 0; t < count; ++t) {
      for (int64_t stream = 0; stream < M; ++stream) {
        const T weight = saved.pre[(first + t) * M + stream];
        const int64_t at = t * size + stream * D;
        const E* carried = g.dcarried == nullptr ? nullptr : g.dcarried + first * size + at;
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
    Product<E, T>({s.data(), K, 1, count, K})
        .run(
            p.fn,
            size,
            size,
            [&](auto v, int64_t t, int64_t i) { return load<decltype(v)>(sums + t * size + i); },
            [&](auto sum, int64_t t, int64_t i) { store(sum, dX + t * size + i); });
    // 4. dfn += s^T X.
    Product<E, T>({s.data(), 1, K, K, count})
        .run(
            X_block,
            size,
            size,
            [&](auto v, int64_t row, int64_t i) {
              return load<decltype(v)>(g.dfn + row * size + i);
            },
            [&](auto sum, int64_t row, int64_t i) { store(sum, g.dfn + row * size + i); });
  }
}

#define BRAID_INSTANTIATE(E, T)                                          \
  template void mhc_enter_forward(                                       \
      const MhcProblem<T>&, const E*, const MhcResults<E, T>&, int64_t); \
  template void mhc_enter_backward(const MhcProblem<T>&,                 \
                                   const E*,                             \
                                   const MhcResults<E, T>&,              \
                                   const MhcGradients<E, T>&,            \
                                   int64_t);
BRAID_INSTANTIATE(Bfloat16, float)
BRAID_INSTANTIATE(float, float)
BRAID_INSTANTIATE(double, double)
#undef BRAID_INSTANTIATE

}  // namespace braid::BRAID_CPU_ISA
