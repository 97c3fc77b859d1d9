#include "kernels/cpu/rope_loops.h"

namespace braid::BRAID_CPU_ISA {

template <class T>
void rope_rotate(const T* x,
                 const T* cos,
                 const T* sin,
                 T* y,
                 int64_t tokens,
                 int64_t N,
                 int64_t H,
                 int64_t P,
                 T sign) {
  const int64_t passed = H - P;
  for (int64_t t = 0; t < tokens; ++t, cos += P / 2, sin += P / 2) {
    for (int64_t n = 0; n < N; ++n, x += H, y += H) {
      for (int64_t i = 0; i < passed; ++i) {
        y[i] = x[i];
      }
      for (int64_t i = 0; i < P / 2; ++i) {
        const T a = x[passed + 2 * i], b = x[passed + 2 * i + 1], s = sign * sin[i];
        y[passed + 2 * i] = a * cos[i] - b * s;
        y[passed + 2 * i + 1] = a * s + b * cos[i];
      }
    }
  }
}

#define BRAID_INSTANTIATE(T) \
  template void rope_rotate( \
      const T*, const T*, const T*, T*, int64_t, int64_t, int64_t, int64_t, T);
BRAID_INSTANTIATE(float)
BRAID_INSTANTIATE(double)
#undef BRAID_INSTANTIATE

}  // namespace braid::BRAID_CPU_ISA
