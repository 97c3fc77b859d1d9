#include "kernels/cpu/rms_norm_loops.h"

#include <cmath>

#include "kernels/cpu/lanes.h"

namespace braid::BRAID_CPU_ISA {

template <class T>
void rms_norm_forward(
    const T* x, const T* weight, T* y, T* inverse_rms, int64_t rows, int64_t D, T eps) {
  for (int64_t row = 0; row < rows; ++row, x += D, y += D) {
    const T inverse = 1 / std::sqrt(dot<T>(x, x, D) / static_cast<T>(D) + eps);
    inverse_rms[row] = inverse;
    if (weight != nullptr) {
      for (int64_t i = 0; i < D; ++i) {
        y[i] = x[i] * inverse * weight[i];
      }
    } else {
      for (int64_t i = 0; i < D; ++i) {
        y[i] = x[i] * inverse;
      }
    }
  }
}

// With e = dy * weight and n = x * inverse_rms: dx = inverse_rms (e - n mean(e n)), dweight = sum
// dy n.
template <class T>
void rms_norm_backward(const T* x,
                       const T* weight,
                       const T* inverse_rms,
                       const T* dy,
                       T* dx,
                       T* dweight,
                       int64_t rows,
                       int64_t D) {
  for (int64_t row = 0; row < rows; ++row, x += D, dy += D, dx += D) {
    const T inverse = inverse_rms[row];
    if (weight != nullptr) {
      for (int64_t i = 0; i < D; ++i) {
        dx[i] = dy[i] * weight[i];
        dweight[i] += dy[i] * x[i] * inverse;
      }
    } else {
      for (int64_t i = 0; i < D; ++i) {
        dx[i] = dy[i];
      }
    }
    const T shift = dot<T>(dx, x, D) * inverse * inverse / static_cast<T>(D);
    for (int64_t i = 0; i < D; ++i) {
      dx[i] = inverse * (dx[i] - x[i] * shift);
    }
  }
}

#define BRAID_INSTANTIATE(T)                                                       \
  template void rms_norm_forward(const T*, const T*, T*, T*, int64_t, int64_t, T); \
  template void rms_norm_backward(const T*, const T*, const T*, const T*, T*, T*, int64_t, int64_t);
BRAID_INSTANTIATE(float)
BRAID_INSTANTIATE(double)
#undef BRAID_INSTANTIATE

}  // namespace braid::BRAID_CPU_ISA
