#include "kernels/precision.h"

#include <ATen/ATen.h>

namespace braid {

at::Tensor project(const at::Tensor& x, const at::Tensor& weight) {
  return at::linear(x, weight.to(x.scalar_type()));
}

}  // namespace braid
