#pragma once
// The CPU driver of products with quantized weights: codes are decoded straight into packed panels,
// in the cache, and multiplied there, so that no matrix is ever in memory whole.
#include <vector>

#include "kernels/weight.h"

namespace braid {

/// All of them on all threads, in one parallel region; `out` of different ones must not overlap.
/// `accumulate` adds to them. Sums over k are float32 in an order that does not depend on threads,
/// and rounded once.
void multiply_quantized_cpu(const std::vector<QuantizedMatrixProduct>& products,
                            bool accumulate = false);

}  // namespace braid
