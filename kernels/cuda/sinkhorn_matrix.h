#pragma once
// Sinkhorn's matrix of one token in the registers of one thread. Every normalization multiplies
// rows or columns by factors, so that after any number of them the matrix is start[i][j] rows[i]
// columns[j]: the factors are all that changes, and all that the backward pass has to keep of a
// step.
#include "kernels/cuda/device.h"
#include "kernels/cuda/kernels.h"

namespace braid::cuda {

/// Step 0 normalizes columns, then rows and columns in turn.
inline __host__ __device__ int64_t sinkhorn_steps(int64_t iterations) {
  return 2 * iterations - 1;
}
constexpr int kMaxSinkhornSteps = 2 * kCudaSinkhornIterations - 1;

template <int kM>
struct SinkhornMatrix {
  float softmax[kM][kM];
  float rows[kM], columns[kM];
  float eps;

  /// logit(i, j) -> float.
  template <class Logit>
  __device__ SinkhornMatrix(const Logit& logit, float eps_) : eps(eps_) {
#pragma unroll
    for (int i = 0; i < kM; ++i) {
      rows[i] = columns[i] = 1;
      float largest = logit(i, 0), sum = 0;
#pragma unroll
      for (int j = 1; j < kM; ++j) {
        const float value = logit(i, j);
        largest = value > largest ? value : largest;
      }
#pragma unroll
      for (int j = 0; j < kM; ++j) {
        softmax[i][j] = expf(logit(i, j) - largest);
        sum += softmax[i][j];
      }
#pragma unroll
      for (int j = 0; j < kM; ++j) {
        softmax[i][j] /= sum;
      }
    }
  }

  __device__ float at(int i, int j) const {
    return (softmax[i][j] + eps) * rows[i] * columns[j];
  }

  __device__ void normalize_rows() {
#pragma unroll
    for (int i = 0; i < kM; ++i) {
      float sum = eps;
#pragma unroll
      for (int j = 0; j < kM; ++j) {
        sum += at(i, j);
      }
      rows[i] /= sum;
    }
  }
  __device__ void normalize_columns() {
#pragma unroll
    for (int j = 0; j < kM; ++j) {
      float sum = eps;
#pragma unroll
      for (int i = 0; i < kM; ++i) {
        sum += at(i, j);
      }
      columns[j] /= sum;
    }
  }

  __device__ void run(int64_t iterations) {
    normalize_columns();
    for (int64_t i = 1; i < iterations; ++i) {
      normalize_rows();
      normalize_columns();
    }
  }

  /// gradient [M, M] of the matrix after all iterations becomes that of the logits. factor(step, i)
  /// is a float& of memory for each step that nobody else uses.
  template <class Factor>
  __device__ void run_backward(int64_t iterations,
                               float (&gradient)[kM][kM],
                               const Factor& factor) {
    const auto steps = static_cast<int>(sinkhorn_steps(iterations));
    for (int step = 0; step < steps; step += 2) {
      if (step > 0) {
        normalize_rows();
        keep(rows, step - 1, factor);
      }
      normalize_columns();
      keep(columns, step, factor);
    }
    for (int step = steps - 1; step >= 0; step -= 2) {
      undo_columns(step, gradient, factor);
      if (step > 0) {
        undo_rows(step - 1, gradient, factor);
      }
    }
#pragma unroll
    for (int i = 0; i < kM; ++i) {
      float product = 0;
#pragma unroll
      for (int j = 0; j < kM; ++j) {
        product += gradient[i][j] * softmax[i][j];
      }
#pragma unroll
      for (int j = 0; j < kM; ++j) {
        gradient[i][j] = (gradient[i][j] - product) * softmax[i][j];
      }
    }
  }

 private:
  template <class Factor>
  static __device__ void keep(const float (&factors)[kM], int step, const Factor& factor) {
#pragma unroll
    for (int i = 0; i < kM; ++i) {
      factor(step, i) = factors[i];
    }
  }

  // Of m = n / (sums of n + eps): dn = (dm - sum(dm m)) / (sums of n + eps). Then the matrix is n.
  template <class Factor>
  __device__ void undo_columns(int step, float (&gradient)[kM][kM], const Factor& factor) {
#pragma unroll
    for (int j = 0; j < kM; ++j) {
      float product = 0;
#pragma unroll
      for (int i = 0; i < kM; ++i) {
        product += gradient[i][j] * at(i, j);
      }
      const float before = step >= 2 ? factor(step - 2, j) : 1.0f, inverse = columns[j] / before;
#pragma unroll
      for (int i = 0; i < kM; ++i) {
        gradient[i][j] = (gradient[i][j] - product) * inverse;
      }
      columns[j] = before;
    }
  }
  template <class Factor>
  __device__ void undo_rows(int step, float (&gradient)[kM][kM], const Factor& factor) {
#pragma unroll
    for (int i = 0; i < kM; ++i) {
      float product = 0;
#pragma unroll
      for (int j = 0; j < kM; ++j) {
        product += gradient[i][j] * at(i, j);
      }
      const float before = step >= 2 ? factor(step - 2, i) : 1.0f, inverse = rows[i] / before;
#pragma unroll
      for (int j = 0; j < kM; ++j) {
        gradient[i][j] = (gradient[i][j] - product) * inverse;
      }
      rows[i] = before;
    }
  }
};

}  // namespace braid::cuda
