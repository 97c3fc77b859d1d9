#pragma once
// Products of bfloat16 rows with FP4 codes by a device's kernel, which decodes them where it
// multiplies. Autograd apart.
#include <vector>

#include <ATen/core/Tensor.h>

#include "kernels/weight.h"

namespace braid {

/// Whether the device of a and out has the kernel for a W^T, or by columns a W, with W rows of this
/// matrix.
bool has_fp4_kernel(const at::Tensor& a,
                    const Weight& weight,
                    const at::Tensor& out,
                    bool by_columns);

/// Of one matrix.
void multiply_fp4_rows(const QuantizedMatrixProduct& product, bool accumulate);

/// The same of each expert's rows; bounds_E1 [E + 1] are theirs, on the device.
void multiply_fp4_experts(const at::Tensor& a,
                          const std::vector<Weight>& each,
                          const at::Tensor& bounds_E1,
                          const at::Tensor& out,
                          bool by_columns,
                          bool accumulate);

}  // namespace braid
