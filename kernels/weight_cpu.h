#pragma once
// The CPU driver of products with quantized weights: codes are decoded straight into packed panels,
// in the cache, and multiplied there, so that no matrix is ever in memory whole.
#include <vector>

#include "kernels/weight.h"

namespace braid {

/// A product with consecutive rows of quantized weights, those from `first_row` on.
struct QuantizedMatrixProduct {
  at::Tensor a;  ///< [m, in], or [m, rows] with `by_columns`; rows have no gaps
  Weight weight;
  at::Tensor out;  ///< a W^T [m, rows], or a W [m, in]; rows have no gaps
  int64_t first_row = 0;
  bool by_columns = false;  ///< a W
};

/// All of them on all threads, in one parallel region; `out` of different ones must not overlap.
/// `accumulate` adds to them. Sums over k are float32 in an order that does not depend on threads,
/// and rounded once.
void multiply_quantized_cpu(const std::vector<QuantizedMatrixProduct>& products,
                            bool accumulate = false);

}  // namespace braid
