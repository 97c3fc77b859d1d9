#include "kernels/cpu/attention_loops.h"

#include <algorithm>
#include <type_traits>

#include "kernels/cpu/lanes.h"

namespace braid::BRAID_CPU_ISA {

template <class T>
void attention_softmax(T* scores,
                       const uint8_t* sees,
                       const T* sink,
                       T* log_sum,
                       int64_t queries,
                       int64_t N,
                       int64_t J,
                       T scale) {
  for (int64_t row = 0; row < queries * N; ++row, scores += J) {
    const uint8_t* seen = sees + row / N * J;
    const T sink_logit = sink[row % N];
    auto most = Vector<T>{} + sink_logit;
    T maximum = sink_logit;
    for_lanes<T>(J, [&](auto v, int64_t j) {
      using V = decltype(v);
      const V z = load<V>(scores + j) * scale;
      store(z, scores + j);
      const V candidate = where_seen<V>(seen + j, z, V{} + sink_logit);
      if constexpr (std::is_same_v<V, T>) {
        maximum = candidate > maximum ? candidate : maximum;
      } else {
        most = candidate > most ? candidate : most;
      }
    });
    maximum = std::max(maximum, largest_of<T>(most));
    Vector<T> sums = {};
    T sum = exponential(sink_logit - maximum);
    for_lanes<T>(J, [&](auto v, int64_t j) {
      using V = decltype(v);
      const V p = where_seen<V>(seen + j, exponential(load<V>(scores + j) - maximum), V{});
      store(p, scores + j);
      add_lanes<T>(p, sums, sum);
    });
    sum += sum_of<T>(sums);
    const T inverse = 1 / sum;
    for (int64_t j = 0; j < J; ++j) {
      scores[j] *= inverse;
    }
    log_sum[row] = maximum + std::log(sum);
  }
}

template <class T>
void attention_softmax_backward(T* scores,
                                T* dscores,
                                const uint8_t* sees,
                                const T* sink,
                                const T* log_sum,
                                T* dsink,
                                int64_t queries,
                                int64_t N,
                                int64_t J,
                                T scale) {
  for (int64_t row = 0; row < queries * N; ++row, scores += J, dscores += J) {
    const uint8_t* seen = sees + row / N * J;
    const T log_row = log_sum[row];
    Vector<T> means = {};
    T mean = 0;  // of the probabilities' gradients
    for_lanes<T>(J, [&](auto v, int64_t j) {
      using V = decltype(v);
      const V p = where_seen<V>(seen + j, exponential(load<V>(scores + j) * scale - log_row), V{});
      store(p, scores + j);
      add_lanes<T>(p * load<V>(dscores + j), means, mean);
    });
    mean += sum_of<T>(means);
    for_lanes<T>(J, [&](auto v, int64_t j) {
      using V = decltype(v);
      store(load<V>(scores + j) * (load<V>(dscores + j) - mean) * scale, dscores + j);
    });
    dsink[row % N] -= exponential(sink[row % N] - log_row) * mean;
  }
}

#define BRAID_INSTANTIATE(T)                                                                       \
  template void attention_softmax(T*, const uint8_t*, const T*, T*, int64_t, int64_t, int64_t, T); \
  template void attention_softmax_backward(                                                        \
      T*, T*, const uint8_t*, const T*, const T*, T*, int64_t, int64_t, int64_t, T);
BRAID_INSTANTIATE(float)
BRAID_INSTANTIATE(double)
#undef BRAID_INSTANTIATE

}  // namespace braid::BRAID_CPU_ISA
