#include "kernels/swiglu_cpu.h"

#include <cmath>
#include <cstring>

namespace braid::BRAID_CPU_ISA {
namespace {

double exponential(double x) { return std::exp(x); }

// e^x = 2^n e^r with |r| <= ln2 / 2: the compiler can vectorise it, which it cannot do with std::exp.
// Below -87 the result is about 1e-38 instead of a denormal; 1 + e^x does not see the difference.
float exponential(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  constexpr float kRounding = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer
  const float shifted = x * 1.44269504f + kRounding;
  const float n = shifted - kRounding;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  int32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = static_cast<int32_t>(static_cast<uint32_t>(bits - 0x4B400000 + 127) << 23);
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return p * power;
}

template <class T>
T clamped(T x, T low, T high) {
  x = x < low ? low : x;
  return x > high ? high : x;
}

}  // namespace

template <class T>
void swiglu_forward(const T* gate, const T* up, const T* weight, T* h, int64_t rows, int64_t F, T limit) {
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

#define BRAID_INSTANTIATE(T)                                                                  \
  template void swiglu_forward(const T*, const T*, const T*, T*, int64_t, int64_t, T);        \
  template void swiglu_backward(const T*, const T*, const T*, const T*, T*, T*, T*, int64_t, int64_t, T);
BRAID_INSTANTIATE(float)
BRAID_INSTANTIATE(double)
#undef BRAID_INSTANTIATE

}  // namespace braid::BRAID_CPU_ISA
