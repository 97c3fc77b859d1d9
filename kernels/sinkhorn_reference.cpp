#include <ATen/ATen.h>

#include "kernels/sinkhorn.h"

namespace braid {

at::Tensor sinkhorn_reference(const at::Tensor& logits_TMM, int64_t iterations, double eps) {
  auto matrix = logits_TMM.softmax(-1) + eps;
  matrix = matrix / (matrix.sum(-2, true) + eps);
  for (int64_t i = 1; i < iterations; ++i) {
    matrix = matrix / (matrix.sum(-1, true) + eps);
    matrix = matrix / (matrix.sum(-2, true) + eps);
  }
  return matrix;
}

}  // namespace braid
