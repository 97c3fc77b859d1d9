#pragma once
#include <cstdint>

#include "kernels/cpu/isa.h"

namespace braid {

/// losses[row] = weight (log(sum_v e^x_v) - x_target) of `rows` rows of V logits; then, with
/// `gradients`, the row becomes its gradient weight (softmax(x) - onehot(target)). `weights` may be
/// null: all 1. float32 uses the exponential of loops.h and sums blocks of 4096 in float64: error
/// of a loss of weight 1 below 1e-6 + 2e-7 |x|max.
BRAID_DECLARE_CPU(template <class T> void cross_entropy_rows(T* logits,
                                                             const int64_t* targets,
                                                             const T* weights,
                                                             T* losses,
                                                             int64_t rows,
                                                             int64_t V,
                                                             bool gradients))

}  // namespace braid
