// Sixteen tokens at a time, one per vector lane: a lane's arithmetic does not depend on its
// neighbors.
#include "kernels/cpu/sinkhorn_loops.h"

#include <memory>

#include "kernels/cpu/loops.h"

namespace braid::BRAID_CPU_ISA {
namespace {

constexpr int64_t kLanes = 16;

// The functions below are made for kM = 4 streams, whose loops the compiler unrolls, and for any
// number (kM = 0).
template <int kM>
constexpr int64_t kRoom = kM > 0 ? kM : kMaxStreams;

// M * M numbers of kLanes tokens; [i * M + j][lane].
template <int kM, class T>
struct Matrices {
  T at[kRoom<kM> * kRoom<kM>][kLanes];
};

template <int kM, class T>
struct Sums {
  T at[kRoom<kM>][kLanes];
};

template <int kM, class T>
void load(const T* source, int64_t count, int64_t size, Matrices<kM, T>& into) {
  for (int64_t i = 0; i < size; ++i) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      into.at[i][lane] = source[(lane < count ? lane : 0) * size + i];
    }
  }
}

template <int kM, class T>
void store(const Matrices<kM, T>& from, int64_t count, int64_t size, T* destination) {
  for (int64_t lane = 0; lane < count; ++lane) {
    for (int64_t i = 0; i < size; ++i) {
      destination[lane * size + i] = from.at[i][lane];
    }
  }
}

// softmax over the last axis.
template <int kM, class T>
void softmax_rows(Matrices<kM, T>& m, int64_t given) {
  const int64_t M = known_or<kM>(given);
  for (int64_t i = 0; i < M; ++i) {
    T largest[kLanes], sum[kLanes] = {};
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      largest[lane] = m.at[i * M][lane];
    }
    for (int64_t j = 1; j < M; ++j) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const T value = m.at[i * M + j][lane];
        largest[lane] = value > largest[lane] ? value : largest[lane];
      }
    }
    for (int64_t j = 0; j < M; ++j) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        m.at[i * M + j][lane] = exponential(m.at[i * M + j][lane] - largest[lane]);
        sum[lane] += m.at[i * M + j][lane];
      }
    }
    for (int64_t j = 0; j < M; ++j) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        m.at[i * M + j][lane] /= sum[lane];
      }
    }
  }
}

// m = m / (sums + eps); rows: sums over the last axis, else over the first.
template <bool rows, int kM, class T>
void normalize(Matrices<kM, T>& m, int64_t given, T eps, Sums<kM, T>& inverse) {
  const int64_t M = known_or<kM>(given);
  for (int64_t i = 0; i < M; ++i) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      inverse.at[i][lane] = eps;
    }
    for (int64_t j = 0; j < M; ++j) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        inverse.at[i][lane] += m.at[rows ? i * M + j : j * M + i][lane];
      }
    }
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      inverse.at[i][lane] = 1 / inverse.at[i][lane];
    }
    for (int64_t j = 0; j < M; ++j) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        m.at[rows ? i * M + j : j * M + i][lane] *= inverse.at[i][lane];
      }
    }
  }
}

// Of m = n / (sums of n + eps): dn = (dm - sum(dm m)) / (sums of n + eps), in place.
template <bool rows, int kM, class T>
void normalize_backward(const Matrices<kM, T>& m,
                        const Sums<kM, T>& inverse,
                        int64_t given,
                        Matrices<kM, T>& gradient) {
  const int64_t M = known_or<kM>(given);
  for (int64_t i = 0; i < M; ++i) {
    T product[kLanes] = {};
    for (int64_t j = 0; j < M; ++j) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const int64_t at = rows ? i * M + j : j * M + i;
        product[lane] += gradient.at[at][lane] * m.at[at][lane];
      }
    }
    for (int64_t j = 0; j < M; ++j) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const int64_t at = rows ? i * M + j : j * M + i;
        gradient.at[at][lane] = (gradient.at[at][lane] - product[lane]) * inverse.at[i][lane];
      }
    }
  }
}

template <int kM, class T>
void add(Matrices<kM, T>& m, int64_t size, T value) {
  for (int64_t i = 0; i < size; ++i) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      m.at[i][lane] += value;
    }
  }
}

template <int kM, class T>
void forward(const T* logits, T* matrix, int64_t tokens, int64_t given, int64_t iterations, T eps) {
  const int64_t M = known_or<kM>(given);
  Matrices<kM, T> m;
  Sums<kM, T> inverse;
  for (int64_t first = 0; first < tokens; first += kLanes) {
    const int64_t count = tokens - first < kLanes ? tokens - first : kLanes;
    load(logits + first * M * M, count, M * M, m);
    softmax_rows(m, M);
    add(m, M * M, eps);
    normalize<false>(m, M, eps, inverse);
    for (int64_t i = 1; i < iterations; ++i) {
      normalize<true>(m, M, eps, inverse);
      normalize<false>(m, M, eps, inverse);
    }
    store(m, count, M * M, matrix + first * M * M);
  }
}

template <int kM, class T>
void backward(const T* logits,
              const T* dmatrix,
              T* dlogits,
              int64_t tokens,
              int64_t given,
              int64_t iterations,
              T eps) {
  const int64_t M = known_or<kM>(given);
  const int64_t steps =
      2 * iterations - 1;  // step 0 normalizes columns, then rows and columns in turn
  const std::unique_ptr<Matrices<kM, T>[]> after(new Matrices<kM, T>[steps]);
  const std::unique_ptr<Sums<kM, T>[]> inverse(new Sums<kM, T>[steps]);
  Matrices<kM, T> softmax, gradient;
  for (int64_t first = 0; first < tokens; first += kLanes) {
    const int64_t count = tokens - first < kLanes ? tokens - first : kLanes;
    load(logits + first * M * M, count, M * M, softmax);
    softmax_rows(softmax, M);
    Matrices<kM, T> m = softmax;
    add(m, M * M, eps);
    for (int64_t step = 0; step < steps; ++step) {
      if (step % 2 == 0) {
        normalize<false>(m, M, eps, inverse[step]);
      } else {
        normalize<true>(m, M, eps, inverse[step]);
      }
      after[step] = m;
    }
    load(dmatrix + first * M * M, count, M * M, gradient);
    for (int64_t step = steps - 1; step >= 0; --step) {
      if (step % 2 == 0) {
        normalize_backward<false>(after[step], inverse[step], M, gradient);
      } else {
        normalize_backward<true>(after[step], inverse[step], M, gradient);
      }
    }
    for (int64_t i = 0; i < M; ++i) {
      T product[kLanes] = {};
      for (int64_t j = 0; j < M; ++j) {
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          product[lane] += gradient.at[i * M + j][lane] * softmax.at[i * M + j][lane];
        }
      }
      for (int64_t j = 0; j < M; ++j) {
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          gradient.at[i * M + j][lane] =
              (gradient.at[i * M + j][lane] - product[lane]) * softmax.at[i * M + j][lane];
        }
      }
    }
    store(gradient, count, M * M, dlogits + first * M * M);
  }
}

}  // namespace

template <class T>
void sinkhorn_forward(
    const T* logits, T* matrix, int64_t tokens, int64_t M, int64_t iterations, T eps) {
  (M == 4 ? forward<4, T> : forward<0, T>)(logits, matrix, tokens, M, iterations, eps);
}

template <class T>
void sinkhorn_backward(const T* logits,
                       const T* dmatrix,
                       T* dlogits,
                       int64_t tokens,
                       int64_t M,
                       int64_t iterations,
                       T eps) {
  (M == 4 ? backward<4, T> : backward<0, T>)(logits, dmatrix, dlogits, tokens, M, iterations, eps);
}

template void sinkhorn_forward(const float*, float*, int64_t, int64_t, int64_t, float);
template void sinkhorn_forward(const double*, double*, int64_t, int64_t, int64_t, double);
template void sinkhorn_backward(
    const float*, const float*, float*, int64_t, int64_t, int64_t, float);
template void sinkhorn_backward(
    const double*, const double*, double*, int64_t, int64_t, int64_t, double);

}  // namespace braid::BRAID_CPU_ISA
