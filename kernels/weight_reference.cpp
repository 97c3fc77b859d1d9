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

void multiply_by_rows_reference(const at::Tensor& x_TI,
                                const Weight& weight,
                                int64_t first_row,
                                at::Tensor& out_TO) {
  const auto w_OI = values_of(weight, x_TI.scalar_type()).narrow(0, first_row, out_TO.size(1));
  multiply_reference(x_TI, w_OI.t(), out_TO);
}

void multiply_by_columns_reference(const at::Tensor& dy_TO,
                                   const Weight& weight,
                                   int64_t first_row,
                                   at::Tensor& out_TI) {
  const auto w_OI = values_of(weight, dy_TO.scalar_type()).narrow(0, first_row, dy_TO.size(1));
  multiply_reference(dy_TO, w_OI, out_TI);
}

}  // namespace braid
