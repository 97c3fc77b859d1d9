#include "kernels/swiglu_cpu.h"

#include "kernels/cpu_loops.h"

namespace braid::BRAID_CPU_ISA {
namespace {

template <class T>
T clamped(T x, T low, T high) {
  x = x < low ? low : x;
  return x > high ? high : x;
}

}  // namespace

template <class T>
void swiglu_forward(
    const T* gate, const T* up, const T* weight, T* h, int64_t rows, int64_t F, T limit) {
  for (int64_t row = 0; row < rows; ++row, gate += F, up += F, h += F) {
    const T factor = weight != nullptr ? weight[row] : T{1};
    for (int64_t i = 0; i < F; ++i) {
      const T a = gate[i] > limit ? limit : gate[i], b = clamped(up[i], -limit, limit);
      h[i] = factor * (a / (1 + exponential(-a))) * b;
    }
  }
}

template <class T>
void swiglu_backward(const T* gate,
                     const T* up,
                     const T* weight,
                     const T* dh,
                     T* dgate,
                     T* dup,
                     T* dweight,
                     int64_t rows,
                     int64_t F,
                     T limit) {
  constexpr int64_t kLanes = 16;
  for (int64_t row = 0; row < rows; ++row, gate += F, up += F, dh += F, dgate += F, dup += F) {
    const T factor = weight != nullptr ? weight[row] : T{1};
    T partial[kLanes] = {};  // of the weight's gradient
    for (int64_t first = 0; first < F; first += kLanes) {
      const int64_t lanes = F - first < kLanes ? F - first : kLanes;
      for (int64_t lane = 0; lane < lanes; ++lane) {
        const int64_t i = first + lane;
        const T a = gate[i] > limit ? limit : gate[i], b = clamped(up[i], -limit, limit);
        const T sigmoid = 1 / (1 + exponential(-a)), silu = a * sigmoid;
        const T slope = sigmoid * (1 + a * (1 - sigmoid));
        dgate[i] = gate[i] <= limit ? factor * dh[i] * b * slope : T{0};
        dup[i] = b == up[i] ? factor * dh[i] * silu : T{0};
        partial[lane] += dh[i] * b * silu;
      }
    }
    if (weight != nullptr) {
      T sum = 0;
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        sum += partial[lane];
      }
      dweight[row] = sum;
    }
  }
}

#define BRAID_INSTANTIATE(T)                                                           \
  template void swiglu_forward(const T*, const T*, const T*, T*, int64_t, int64_t, T); \
  template void swiglu_backward(                                                       \
      const T*, const T*, const T*, const T*, T*, T*, T*, int64_t, int64_t, T);
BRAID_INSTANTIATE(float)
BRAID_INSTANTIATE(double)
#undef BRAID_INSTANTIATE

}  // namespace braid::BRAID_CPU_ISA
