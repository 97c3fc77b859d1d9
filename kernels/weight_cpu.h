#pragma once
// The CPU driver of products with quantized weights: blocks of codes are decoded into the cache and
// multiplied there, so that no matrix is ever in memory whole.
#include "kernels/weight.h"

namespace braid {

/// As in weight.h.
void multiply_by_rows_cpu(const at::Tensor& x_TI,
                          const Weight& weight,
                          int64_t first_row,
                          at::Tensor& out_TO);
void multiply_by_columns_cpu(const at::Tensor& dy_TO,
                             const Weight& weight,
                             int64_t first_row,
                             at::Tensor& out_TI);

}  // namespace braid
