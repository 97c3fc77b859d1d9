#include "kernels/cpu/cross_entropy_loops.h"

#include "kernels/cpu/loops.h"

namespace braid::BRAID_CPU_ISA {
namespace {

constexpr int64_t kLanes = 16;

template <class T>
T largest_of(const T* x, int64_t size) {
  T largest[kLanes];
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    largest[lane] = x[0];
  }
  for (int64_t first = 0; first < size; first += kLanes) {
    const int64_t lanes = size - first < kLanes ? size - first : kLanes;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      largest[lane] = x[first + lane] > largest[lane] ? x[first + lane] : largest[lane];
    }
  }
  T result = largest[0];
  for (int64_t lane = 1; lane < kLanes; ++lane) {
    result = largest[lane] > result ? largest[lane] : result;
  }
  return result;
}

// x -> e^(x - shift) where `keep`; returns the sum.
template <bool keep, class T>
double exponentials(T* x, int64_t size, T shift) {
  constexpr int64_t kBlock = 4096;
  double sum = 0;
  for (int64_t block = 0; block < size; block += kBlock) {
    const int64_t end = size - block < kBlock ? size : block + kBlock;
    T partial[kLanes] = {};
    for (int64_t first = block; first < end; first += kLanes) {
      const int64_t lanes = end - first < kLanes ? end - first : kLanes;
      for (int64_t lane = 0; lane < lanes; ++lane) {
        const T e = exponential(x[first + lane] - shift);
        partial[lane] += e;
        if constexpr (keep) {
          x[first + lane] = e;
        }
      }
    }
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      sum += static_cast<double>(partial[lane]);
    }
  }
  return sum;
}

}  // namespace

template <class T>
void cross_entropy_rows(T* logits,
                        const int64_t* targets,
                        const T* weights,
                        T* losses,
                        int64_t rows,
                        int64_t V,
                        bool gradients) {
  for (int64_t row = 0; row < rows; ++row, logits += V) {
    const T shift = largest_of(logits, V);
    const T target_logit = logits[targets[row]];
    const double sum =
        gradients ? exponentials<true>(logits, V, shift) : exponentials<false>(logits, V, shift);
    const double weight = weights == nullptr ? 1 : static_cast<double>(weights[row]);
    losses[row] =
        static_cast<T>(weight * (std::log(sum) - static_cast<double>(target_logit - shift)));
    if (gradients) {
      const T inverse = static_cast<T>(weight / sum);
      for (int64_t v = 0; v < V; ++v) {
        logits[v] *= inverse;
      }
      logits[targets[row]] -= static_cast<T>(weight);
    }
  }
}

template void cross_entropy_rows(
    float*, const int64_t*, const float*, float*, int64_t, int64_t, bool);
template void cross_entropy_rows(
    double*, const int64_t*, const double*, double*, int64_t, int64_t, bool);

}  // namespace braid::BRAID_CPU_ISA
