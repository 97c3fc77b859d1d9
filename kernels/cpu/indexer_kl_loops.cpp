#include "kernels/cpu/indexer_kl_loops.h"

#include "kernels/cpu/loops.h"

namespace braid::BRAID_CPU_ISA {
namespace {

constexpr int64_t kLanes = 16;

}  // namespace

template <class T>
void add_to_log_sums(const T* z, T* largest, T* sum, int64_t J, int64_t columns) {
  for (int64_t first = 0; first < columns; first += kLanes) {
    const int64_t lanes = columns - first < kLanes ? columns - first : kLanes;
    T top[kLanes] = {}, partial[kLanes] = {};
    for (int64_t lane = 0; lane < lanes; ++lane) {
      top[lane] = largest[first + lane];
    }
    for (int64_t j = 0; j < J; ++j) {
      const T* row = z + j * columns + first;
      for (int64_t lane = 0; lane < lanes; ++lane) {
        top[lane] = row[lane] > top[lane] ? row[lane] : top[lane];
      }
    }
    for (int64_t j = 0; j < J; ++j) {
      const T* row = z + j * columns + first;
      for (int64_t lane = 0; lane < lanes; ++lane) {
        partial[lane] += exponential(row[lane] - top[lane]);
      }
    }
    for (int64_t lane = 0; lane < lanes; ++lane) {
      sum[first + lane] =
          sum[first + lane] * exponential(largest[first + lane] - top[lane]) + partial[lane];
      largest[first + lane] = top[lane];
    }
  }
}

template <class T>
void sum_of_heads(T* z, const T* shift, T* mass, int64_t J, int64_t heads, int64_t Q) {
  const int64_t columns = heads * Q;
  for (int64_t j = 0; j < J; ++j, z += columns, mass += Q) {
    for (int64_t column = 0; column < columns; ++column) {
      z[column] = exponential(z[column] - shift[column]);
    }
    for (int64_t t = 0; t < Q; ++t) {
      mass[t] = z[t];
    }
    for (int64_t head = 1; head < heads; ++head) {
      for (int64_t t = 0; t < Q; ++t) {
        mass[t] += z[head * Q + t];
      }
    }
  }
}

template <class T>
void weighted_relu_columns(
    const T* products, const T* weight, T* scores, int64_t J, int64_t heads, int64_t Q) {
  for (int64_t j = 0; j < J; ++j, products += heads * Q, scores += Q) {
    for (int64_t t = 0; t < Q; ++t) {
      scores[t] = 0;
    }
    for (int64_t head = 0; head < heads; ++head) {
      for (int64_t t = 0; t < Q; ++t) {
        const T product = products[head * Q + t];
        scores[t] += weight[head * Q + t] * (product > 0 ? product : T{0});
      }
    }
  }
}

// A lane serves every sixteenth pair of key and query, always of one query; sums over many entries
// are in double.
template <class T>
void divergence(T* mass, T* scores, const uint8_t* seen, T* kl, int64_t J, int64_t Q) {
  constexpr T kLowest = static_cast<T>(-1e30);
  T top[kLanes], log_mass[kLanes] = {}, log_scores[kLanes] = {};
  double mass_sum[kLanes] = {}, score_sum[kLanes] = {}, kl_sum[kLanes] = {};
  const auto reduce = [Q](auto* lanes, const auto& combine) {
    for (int64_t lane = Q; lane < kLanes; ++lane) {
      lanes[lane % Q] = combine(lanes[lane % Q], lanes[lane]);
    }
    for (int64_t lane = Q; lane < kLanes; ++lane) {
      lanes[lane] = lanes[lane % Q];
    }
  };
  const auto add = [](double a, double b) { return a + b; };
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    top[lane] = kLowest;
  }
  for (int64_t first = 0; first < J * Q; first += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const T score = seen[first + lane] ? scores[first + lane] : kLowest;
      top[lane] = score > top[lane] ? score : top[lane];
    }
  }
  reduce(top, [](T a, T b) { return a > b ? a : b; });
  for (int64_t first = 0; first < J * Q; first += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const bool in = seen[first + lane] != 0;
      const T e = exponential(scores[first + lane] - top[lane]);
      mass_sum[lane] += in ? mass[first + lane] : T{0};
      score_sum[lane] += in ? e : T{0};
    }
  }
  reduce(mass_sum, add);
  reduce(score_sum, add);
  T share[kLanes];
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    log_mass[lane] = static_cast<T>(std::log(mass_sum[lane]));
    log_scores[lane] = top[lane] + static_cast<T>(std::log(score_sum[lane]));
    share[lane] = static_cast<T>(1 / mass_sum[lane]);
  }
  for (int64_t first = 0; first < J * Q; first += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const bool in = seen[first + lane] != 0;
      const T m = mass[first + lane], log_q = scores[first + lane] - log_scores[lane];
      const T p = m * share[lane], log_p = logarithm(m) - log_mass[lane];
      const T difference = exponential(log_q) - p, term = p * (log_p - log_q);
      const T counted = m > 0 ? term : T{0};
      kl_sum[lane] += in ? counted : T{0};
      mass[first + lane] = in ? p : T{0};
      scores[first + lane] = in ? difference : T{0};
    }
  }
  reduce(kl_sum, add);
  for (int64_t t = 0; t < Q; ++t) {
    kl[t] = static_cast<T>(kl_sum[t]);
  }
}

template <class T>
void weighted_relu_columns_backward(T* products,
                                    const T* weight,
                                    const T* dscores,
                                    T* dweight,
                                    int64_t J,
                                    int64_t heads,
                                    int64_t Q) {
  for (int64_t j = 0; j < J; ++j, products += heads * Q, dscores += Q) {
    for (int64_t head = 0; head < heads; ++head) {
      for (int64_t t = 0; t < Q; ++t) {
        const int64_t column = head * Q + t;
        const T product = products[column];
        dweight[column] += product > 0 ? dscores[t] * product : T{0};
        products[column] = product > 0 ? dscores[t] * weight[column] : T{0};
      }
    }
  }
}

#define BRAID_INSTANTIATE(T)                                                              \
  template void add_to_log_sums(const T*, T*, T*, int64_t, int64_t);                      \
  template void sum_of_heads(T*, const T*, T*, int64_t, int64_t, int64_t);                \
  template void weighted_relu_columns(const T*, const T*, T*, int64_t, int64_t, int64_t); \
  template void divergence(T*, T*, const uint8_t*, T*, int64_t, int64_t);                 \
  template void weighted_relu_columns_backward(                                           \
      T*, const T*, const T*, T*, int64_t, int64_t, int64_t);
BRAID_INSTANTIATE(float)
BRAID_INSTANTIATE(double)
#undef BRAID_INSTANTIATE

}  // namespace braid::BRAID_CPU_ISA
