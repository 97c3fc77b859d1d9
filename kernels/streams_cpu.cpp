// One pass over the streams of a token at a time: all M of them fit in the first-level cache.
#include "kernels/streams_cpu.h"

#include "kernels/cpu_loops.h"

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
      dpre[s] = dot(X + s * D, dx, D);
    }
  }
}

template <class T>
void expand_forward(const T* X,
                    const T* y,
                    const T* post,
                    const T* mix,
                    T* out,
                    int64_t tokens,
                    int64_t M,
                    int64_t D) {
  for (int64_t t = 0; t < tokens; ++t, X += M * D, out += M * D, y += D, post += M, mix += M * M) {
    for (int64_t k = 0; k < M; ++k) {
      scaled<false>(y, post[k], out + k * D, D);
      for (int64_t j = 0; j < M; ++j) {
        scaled<true>(X + j * D, mix[j * M + k], out + k * D, D);
      }
    }
  }
}

template <class T>
void expand_backward(const T* X,
                     const T* y,
                     const T* post,
                     const T* mix,
                     const T* dout,
                     T* dX,
                     T* dy,
                     T* dpost,
                     T* dmix,
                     int64_t tokens,
                     int64_t M,
                     int64_t D) {
  for (int64_t t = 0; t < tokens; ++t) {
    scaled<false>(dout, post[0], dy, D);
    for (int64_t k = 1; k < M; ++k) {
      scaled<true>(dout + k * D, post[k], dy, D);
    }
    for (int64_t j = 0; j < M; ++j) {
      scaled<false>(dout, mix[j * M], dX + j * D, D);
      for (int64_t k = 1; k < M; ++k) {
        scaled<true>(dout + k * D, mix[j * M + k], dX + j * D, D);
      }
      for (int64_t k = 0; k < M; ++k) {
        dmix[j * M + k] = dot(X + j * D, dout + k * D, D);
      }
      dpost[j] = dot(y, dout + j * D, D);
    }
    X += M * D, dX += M * D, dout += M * D, y += D, dy += D, post += M, dpost += M, mix += M * M,
        dmix += M * M;
  }
}

#define BRAID_INSTANTIATE(T)                                                         \
  template void collapse_forward(const T*, const T*, T*, int64_t, int64_t, int64_t); \
  template void collapse_backward(                                                   \
      const T*, const T*, const T*, T*, T*, int64_t, int64_t, int64_t);              \
  template void expand_forward(                                                      \
      const T*, const T*, const T*, const T*, T*, int64_t, int64_t, int64_t);        \
  template void expand_backward(const T*,                                            \
                                const T*,                                            \
                                const T*,                                            \
                                const T*,                                            \
                                const T*,                                            \
                                T*,                                                  \
                                T*,                                                  \
                                T*,                                                  \
                                T*,                                                  \
                                int64_t,                                             \
                                int64_t,                                             \
                                int64_t);
BRAID_INSTANTIATE(float)
BRAID_INSTANTIATE(double)
#undef BRAID_INSTANTIATE

}  // namespace braid::BRAID_CPU_ISA
