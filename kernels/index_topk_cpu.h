#pragma once
#include <cstdint>

#include "kernels/cpu_isa.h"

namespace braid {

/// scores[c] = sum_h weight[h] relu(products[h * stride + c]), c < count.
BRAID_DECLARE_CPU(template <class T> void weighted_relu_sum(
    const T* products, const T* weight, T* scores, int64_t heads, int64_t count, int64_t stride))

/// The first position >= begin with scores[position] > threshold; `end` if there is none.
BRAID_DECLARE_CPU(template <class T>
                  int64_t next_above(const T* scores, int64_t begin, int64_t end, T threshold))

}  // namespace braid
