// One pass over the streams of a token at a time: all M of them fit in the first-level cache.
#include "kernels/cpu/streams_loops.h"

#include "kernels/cpu/lanes.h"
#include "kernels/cpu/loops.h"

namespace braid::BRAID_CPU_ISA {
namespace {

// out (+)= factor * x
template <bool accumulate, class T>
void scaled(const T* __restrict x, T factor, T* __restrict out, int64_t size) {
  for (int64_t i = 0; i < size; ++i) {
    out[i] = (accumulate ? out[i] : T{0}) + factor * x[i];
  }
}

}  // namespace

template <class T>
void collapse_forward(const T* X, const T* pre, T* x, int64_t tokens, int64_t M, int64_t D) {
  for (int64_t t = 0; t < tokens; ++t, X += M * D, pre += M, x += D) {
    scaled<false>(X, pre[0], x, D);
    for (int64_t s = 1; s < M; ++s) {
      scaled<true>(X + s * D, pre[s], x, D);
    }
  }
}

template <class T>
void collapse_backward(
    const T* X, const T* pre, const T* dx, T* dX, T* dpre, int64_t tokens, int64_t M, int64_t D) {
  for (int64_t t = 0; t < tokens; ++t, X += M * D, dX += M * D, pre += M, dpre += M, dx += D) {
    for (int64_t s = 0; s < M; ++s) {
      scaled<false>(dx, pre[s], dX + s * D, D);
      dpre[s] = dot<T>(X + s * D, dx, D);
    }
  }
}

namespace {

// kM = 4 streams, whose sums then stay in registers, or (kM = 0) any number.
template <int kM, class E, class T>
void expand_token(
    const E* X, const E* y, const T* post, const T* mix, E* out, int64_t given_M, int64_t D) {
  const int64_t M = known_or<kM>(given_M);
  for_lanes<T>(D, [&](auto v, int64_t i) {
    using V = decltype(v);
    const V y_i = load<V>(y + i);
    for (int64_t k = 0; k < M; ++k) {
      V sum = post[k] * y_i;
      for (int64_t j = 0; j < M; ++j) {
        sum += mix[j * M + k] * load<V>(X + j * D + i);
      }
      store(sum, out + k * D + i);
    }
  });
}

// kM streams, all their sums at once: dX may be where dout is.
template <int kM, class E, class T>
void expand_token_backward(const E* X,
                           const E* y,
                           const T* post,
                           const T* mix,
                           const E* dout,
                           E* dX,
                           E* dy,
                           T* dpost,
                           T* dmix,
                           int64_t D) {
  Vector<T> mix_lanes[kM * kM] = {}, post_lanes[kM] = {};
  T mix_rest[kM * kM] = {}, post_rest[kM] = {};
  for_lanes<T>(D, [&](auto v, int64_t i) {
    using V = decltype(v);
    V d[kM];
    for (int k = 0; k < kM; ++k) {
      d[k] = load<V>(dout + k * D + i);
    }
    const V y_i = load<V>(y + i);
    V dy_i = post[0] * d[0];
    for (int k = 1; k < kM; ++k) {
      dy_i += post[k] * d[k];
    }
    store(dy_i, dy + i);
    for (int k = 0; k < kM; ++k) {
      add_lanes<T>(y_i * d[k], post_lanes[k], post_rest[k]);
    }
    for (int j = 0; j < kM; ++j) {
      const V x = load<V>(X + j * D + i);
      V sum = mix[j * kM] * d[0];
      for (int k = 1; k < kM; ++k) {
        sum += mix[j * kM + k] * d[k];
      }
      store(sum, dX + j * D + i);
      for (int k = 0; k < kM; ++k) {
        add_lanes<T>(x * d[k], mix_lanes[j * kM + k], mix_rest[j * kM + k]);
      }
    }
  });
  for (int k = 0; k < kM; ++k) {
    dpost[k] = sum_of<T>(post_lanes[k]) + post_rest[k];
  }
  for (int i = 0; i < kM * kM; ++i) {
    dmix[i] = sum_of<T>(mix_lanes[i]) + mix_rest[i];
  }
}

// Any number of streams: one sum after the other.
template <class E, class T>
void expand_token_backward(const E* X,
                           const E* y,
                           const T* post,
                           const T* mix,
                           const E* dout,
                           E* dX,
                           E* dy,
                           T* dpost,
                           T* dmix,
                           int64_t M,
                           int64_t D) {
  const auto weighted = [&](const T* weights, E* into) {
    for_lanes<T>(D, [&](auto v, int64_t i) {
      using V = decltype(v);
      V sum = weights[0] * load<V>(dout + i);
      for (int64_t k = 1; k < M; ++k) {
        sum += weights[k] * load<V>(dout + k * D + i);
      }
      store(sum, into + i);
    });
  };
  weighted(post, dy);
  for (int64_t j = 0; j < M; ++j) {
    weighted(mix + j * M, dX + j * D);
    dpost[j] = dot<T>(y, dout + j * D, D);
    for (int64_t k = 0; k < M; ++k) {
      dmix[j * M + k] = dot<T>(X + j * D, dout + k * D, D);
    }
  }
}

}  // namespace

template <class E, class T>
void expand_forward(const E* X,
                    const E* y,
                    const T* post,
                    const T* mix,
                    E* out,
                    int64_t tokens,
                    int64_t M,
                    int64_t D) {
  for (int64_t t = 0; t < tokens; ++t, X += M * D, out += M * D, y += D, post += M, mix += M * M) {
    ask_for(X + M * D, M * D);
    if (M == 4) {
      expand_token<4>(X, y, post, mix, out, M, D);
    } else {
      expand_token<0>(X, y, post, mix, out, M, D);
    }
  }
}

template <class E, class T>
void expand_backward(const E* X,
                     const E* y,
                     const T* post,
                     const T* mix,
                     const E* dout,
                     E* dX,
                     E* dy,
                     T* dpost,
                     T* dmix,
                     int64_t tokens,
                     int64_t M,
                     int64_t D) {
  for (int64_t t = 0; t < tokens; ++t) {
    ask_for(X + M * D, M * D);
    ask_for(dout + M * D, M * D);
    if (M == 4) {
      expand_token_backward<4>(X, y, post, mix, dout, dX, dy, dpost, dmix, D);
    } else {
      expand_token_backward(X, y, post, mix, dout, dX, dy, dpost, dmix, M, D);
    }
    X += M * D, dX += M * D, dout += M * D, y += D, dy += D, post += M, dpost += M, mix += M * M,
        dmix += M * M;
  }
}

#define BRAID_INSTANTIATE(T)                                                         \
  template void collapse_forward(const T*, const T*, T*, int64_t, int64_t, int64_t); \
  template void collapse_backward(const T*, const T*, const T*, T*, T*, int64_t, int64_t, int64_t);
BRAID_INSTANTIATE(float)
BRAID_INSTANTIATE(double)
#undef BRAID_INSTANTIATE
#define BRAID_INSTANTIATE(E, T)                                               \
  template void expand_forward(                                               \
      const E*, const E*, const T*, const T*, E*, int64_t, int64_t, int64_t); \
  template void expand_backward(const E*,                                     \
                                const E*,                                     \
                                const T*,                                     \
                                const T*,                                     \
                                const E*,                                     \
                                E*,                                           \
                                E*,                                           \
                                T*,                                           \
                                T*,                                           \
                                int64_t,                                      \
                                int64_t,                                      \
                                int64_t);
BRAID_INSTANTIATE(Bfloat16, float)
BRAID_INSTANTIATE(float, float)
BRAID_INSTANTIATE(double, double)
#undef BRAID_INSTANTIATE

}  // namespace braid::BRAID_CPU_ISA
