#include "kernels/cpu/update_loops.h"

#include <cmath>

namespace braid::BRAID_CPU_ISA {

template <class T>
double sum_of_squares(const T* x, int64_t count) {
  constexpr int64_t kLanes = 32;
  double partial[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const double wide = x[i + lane];
      partial[lane] += wide * wide;
    }
  }
  double sum = 0;
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    sum += partial[lane];
  }
  for (; i < count; ++i) {
    const double wide = x[i];
    sum += wide * wide;
  }
  return sum;
}

template <class T>
void adamw_elements(T* __restrict value,
                    const T* __restrict gradient,
                    T* __restrict exp_avg,
                    T* __restrict exp_avg_sq,
                    int64_t count,
                    const AdamWFactors<T>& factors) {
  const AdamWFactors<T> f = factors;
  for (int64_t i = 0; i < count; ++i) {
    const T g = gradient[i] * f.gradient_scale;
    const T m = exp_avg[i] * f.beta1 + g * f.fresh1;
    const T v = exp_avg_sq[i] * f.beta2 + g * g * f.fresh2;
    exp_avg[i] = m;
    exp_avg_sq[i] = v;
    value[i] = value[i] * f.decay - f.rate * m / (std::sqrt(v) / f.root + f.epsilon);
  }
}

template <class T>
void momentum_direction(const T* __restrict gradient,
                        T* __restrict momentum,
                        T* __restrict x,
                        int64_t count,
                        T mu,
                        T gradient_scale) {
  for (int64_t i = 0; i < count; ++i) {
    const T g = gradient[i] * gradient_scale;
    const T m = mu * momentum[i] + g;
    momentum[i] = m;
    x[i] = mu * m + g;
  }
}

template <class T>
void divide_elements(T* x, int64_t count, T by) {
  for (int64_t i = 0; i < count; ++i) {
    x[i] /= by;
  }
}

template <class T>
void polynomial_elements(const T* __restrict a, T* __restrict square, int64_t count, T b, T c) {
  for (int64_t i = 0; i < count; ++i) {
    square[i] = b * a[i] + c * square[i];
  }
}

template <class T>
void decayed_step(T* __restrict value, const T* __restrict update, int64_t count, T decay, T rate) {
  for (int64_t i = 0; i < count; ++i) {
    value[i] = decay * value[i] - rate * update[i];
  }
}

#define BRAID_INSTANTIATE(T)                                                              \
  template double sum_of_squares<T>(const T*, int64_t);                                   \
  template void adamw_elements<T>(T*, const T*, T*, T*, int64_t, const AdamWFactors<T>&); \
  template void momentum_direction<T>(const T*, T*, T*, int64_t, T, T);                   \
  template void divide_elements<T>(T*, int64_t, T);                                       \
  template void polynomial_elements<T>(const T*, T*, int64_t, T, T);                      \
  template void decayed_step<T>(T*, const T*, int64_t, T, T);
BRAID_INSTANTIATE(float)
BRAID_INSTANTIATE(double)
#undef BRAID_INSTANTIATE

}  // namespace braid::BRAID_CPU_ISA
