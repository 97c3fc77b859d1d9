#include "kernels/cpu/swiglu_loops.h"

#include "kernels/cpu/lanes.h"

namespace braid::BRAID_CPU_ISA {
namespace {

template <class V>
V at_most(V x, V limit) {
  return x > limit ? limit : x;
}
template <class V>
V at_least(V x, V limit) {
  return x < limit ? limit : x;
}

}  // namespace

template <class T>
void swiglu_forward(
    const T* gate, const T* up, const T* weight, T* h, int64_t rows, int64_t F, T limit) {
  for (int64_t row = 0; row < rows; ++row, gate += F, up += F, h += F) {
    const T factor = weight != nullptr ? weight[row] : T{1};
    for_lanes<T>(F, [&](auto v, int64_t i) {
      using V = decltype(v);
      const V most = V{} + limit, a = at_most(load<V>(gate + i), most),
              b = at_most(at_least(load<V>(up + i), -most), most);
      store(factor * (a / (1 + exponential(-a))) * b, h + i);
    });
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
  for (int64_t row = 0; row < rows; ++row, gate += F, up += F, dh += F, dgate += F, dup += F) {
    const T factor = weight != nullptr ? weight[row] : T{1};
    Vector<T> sums = {};
    T sum = 0;  // the weight's gradient
    for_lanes<T>(F, [&](auto v, int64_t i) {
      using V = decltype(v);
      const V most = V{} + limit, one = V{} + T{1};
      const V given_a = load<V>(gate + i), given_b = load<V>(up + i), d = load<V>(dh + i);
      const V a = at_most(given_a, most), b = at_most(at_least(given_b, -most), most);
      const V sigmoid = one / (one + exponential(-a)), silu = a * sigmoid;
      const V slope = sigmoid * (one + a * (one - sigmoid));
      store(given_a <= most ? factor * d * b * slope : V{}, dgate + i);
      store(b == given_b ? factor * d * silu : V{}, dup + i);
      add_lanes<T>(d * b * silu, sums, sum);
    });
    if (weight != nullptr) {
      dweight[row] = sum + sum_of<T>(sums);
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
