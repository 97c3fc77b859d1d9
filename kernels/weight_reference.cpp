// Local letters: I inputs and O outputs of a matrix.
#include <ATen/ATen.h>

#include "kernels/codec.h"
#include "kernels/gemm.h"
#include "kernels/weight.h"

namespace braid {
namespace {

at::Tensor values_of(const Weight& weight, at::ScalarType type) {
  return weight.quantized() ? decode_reference({weight.values, weight.scales}, type)
                            : weight.values.to(type);
}

}  // namespace

at::Tensor project_reference(const at::Tensor& x, const Weight& weight) {
  return at::matmul(x, values_of(weight, x.scalar_type()).t());
}

at::Tensor grouped_project_reference(const at::Tensor& x_TGI, const Weight& weight) {
  const auto w_GOI =
      values_of(weight, x_TGI.scalar_type()).view({x_TGI.size(1), -1, x_TGI.size(2)});
  return at::bmm(x_TGI.transpose(0, 1), w_GOI.transpose(1, 2)).transpose(0, 1);
}

void multiply_each_quantized_reference(const std::vector<QuantizedMatrixProduct>& products,
                                       bool accumulate) {
  for (auto [a, weight, out, first_row, by_columns] : products) {
    const int64_t rows = by_columns ? a.size(1) : out.size(1);
    const auto w_OI = values_of(weight, a.scalar_type()).narrow(0, first_row, rows);
    multiply_reference(a, by_columns ? w_OI : w_OI.t(), out, accumulate);
  }
}

}  // namespace braid
