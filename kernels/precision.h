#pragma once
#include <ATen/core/Tensor.h>

namespace braid {

/// The type in which norms, softmaxes, rotations, routers, Sinkhorn and losses are computed:
/// float32, whatever narrower type the activations have, and float64 in a float64 model. Products
/// of float32 matrices are as exact as use_float32_products() of kernels/gemm.h says.
inline at::ScalarType wide_type(at::ScalarType type) {
  return type == at::kDouble ? at::kDouble : at::kFloat;
}
inline at::ScalarType wide_type(const at::Tensor& x) {
  return wide_type(x.scalar_type());
}
inline at::Tensor widened(const at::Tensor& x) {
  return x.to(wide_type(x));
}

}  // namespace braid
