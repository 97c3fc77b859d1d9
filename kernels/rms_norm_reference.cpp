#include <ATen/ATen.h>

#include "kernels/precision.h"
#include "kernels/rms_norm.h"

namespace braid {

at::Tensor rms_norm_reference(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const auto wide = widened(x);
  auto y = wide * (wide.square().mean(-1, true) + eps).rsqrt();
  if (weight.defined()) {
    y = y * weight.to(y.scalar_type());
  }
  return y.to(x.scalar_type());
}

}  // namespace braid
