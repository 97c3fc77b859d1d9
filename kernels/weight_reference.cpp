#include <ATen/ATen.h>

#include "kernels/codec.h"
#include "kernels/weight.h"

namespace braid {

at::Tensor project_reference(const at::Tensor& x, const Weight& weight) {
  const auto values = weight.quantized()
                          ? decode_reference({weight.values, weight.scales}, x.scalar_type())
                          : weight.values.to(x.scalar_type());
  return at::matmul(x, values.t());
}

}  // namespace braid
