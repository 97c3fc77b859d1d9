#include "kernels/cpu/routing_loops.h"

#include <limits>

#include "kernels/cpu/loops.h"

namespace braid::BRAID_CPU_ISA {
namespace {

// Both sides of a choice are computed: only then can the compiler vectorize.

// e^-|z|, 0 where it underflows.
float decay(float z) {
  const float e = exponential(z < 0 ? z : -z), large = z > 87 ? 0 : e;
  return z < -87 ? 0 : large;
}
double decay(double z) {
  return std::exp(z < 0 ? z : -z);
}

// log(1 + e), 0 <= e <= 1; the quotient undoes the rounding of 1 + e.
template <class T>
T log_of_one_and(T e) {
  const T u = 1 + e, rounded = u - 1;
  const T divisor = rounded == 0 ? T{1} : rounded;
  const T exact = logarithm(u) * (e / divisor);
  return rounded == 0 ? e : exact;
}

}  // namespace

template <class T>
void routing_scores(const T* logits, T* scores, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const T z = logits[i];
    scores[i] = std::sqrt((z > 0 ? z : T{0}) + log_of_one_and(decay(z)));
  }
}

template <class T>
void choose_experts(
    const T* scores, const T* bias, int64_t* experts, int64_t tokens, int64_t E, int64_t K) {
  constexpr T kLowest = -std::numeric_limits<T>::infinity();
  for (int64_t t = 0; t < tokens; ++t, scores += E, experts += K) {
    const auto value = [&](int64_t e) {
      const T sum = scores[e] + bias[e];
      return sum == sum ? sum : kLowest;
    };
    int64_t chosen = 0;
    T worst = kLowest;  // of K chosen ones
    for (int64_t e = 0; e < E; ++e) {
      const T v = value(e);
      if (chosen == K && !(v > worst)) {
        continue;
      }
      // Behind all that are as good: they are lower.
      int64_t place = chosen < K ? chosen++ : K - 1;
      for (; place > 0 && v > value(experts[place - 1]); --place) {
        experts[place] = experts[place - 1];
      }
      experts[place] = e;
      worst = chosen == K ? value(experts[K - 1]) : kLowest;
    }
  }
}

template <class T>
void routing_weights(const T* scores,
                     const int64_t* experts,
                     T* weights,
                     T scaling,
                     int64_t tokens,
                     int64_t E,
                     int64_t K) {
  for (int64_t t = 0; t < tokens; ++t, scores += E, experts += K, weights += K) {
    T sum = 0;
    for (int64_t k = 0; k < K; ++k) {
      sum += scores[experts[k]];
    }
    const T factor = sum > 0 ? scaling / sum : T{0};
    for (int64_t k = 0; k < K; ++k) {
      weights[k] = sum == sum ? scores[experts[k]] * factor : sum;
    }
  }
}

// ds_k = scaling / sum s (dw_k - sum_j dw_j s_j / sum s), dz = ds sigmoid(z) / (2 s).
template <class T>
void routing_backward(const T* logits,
                      const T* scores,
                      const int64_t* experts,
                      const T* dscores,
                      const T* dweights,
                      T* dlogits,
                      T scaling,
                      int64_t tokens,
                      int64_t E,
                      int64_t K) {
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t e = 0; e < E; ++e) {
      dlogits[e] = dscores != nullptr ? dscores[e] : T{0};
    }
    T sum = 0, weighted = 0;
    for (int64_t k = 0; k < K; ++k) {
      sum += scores[experts[k]];
      weighted += dweights[k] * scores[experts[k]];
    }
    const T factor = sum > 0 ? scaling / sum : T{0}, mean = sum > 0 ? weighted / sum : T{0};
    for (int64_t k = 0; k < K; ++k) {
      dlogits[experts[k]] += factor * (dweights[k] - mean);
    }
    for (int64_t e = 0; e < E; ++e) {
      const T z = logits[e], decayed = decay(z);
      const T slope = (z < 0 ? decayed : T{1}) / (1 + decayed);
      const T twice = 2 * scores[e], divisor = twice == 0 ? T{1} : twice;
      const T gradient = dlogits[e] * slope / divisor;
      dlogits[e] = twice == 0 ? T{0} : gradient;
    }
    logits += E, scores += E, experts += K, dweights += K, dlogits += E;
    dscores = dscores != nullptr ? dscores + E : dscores;
  }
}

#define BRAID_INSTANTIATE(T)                                                                 \
  template void routing_scores(const T*, T*, int64_t);                                       \
  template void choose_experts(const T*, const T*, int64_t*, int64_t, int64_t, int64_t);     \
  template void routing_weights(const T*, const int64_t*, T*, T, int64_t, int64_t, int64_t); \
  template void routing_backward(                                                            \
      const T*, const T*, const int64_t*, const T*, const T*, T*, T, int64_t, int64_t, int64_t);
BRAID_INSTANTIATE(float)
BRAID_INSTANTIATE(double)
#undef BRAID_INSTANTIATE

}  // namespace braid::BRAID_CPU_ISA
