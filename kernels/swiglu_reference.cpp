#include <ATen/ATen.h>

#include "kernels/precision.h"
#include "kernels/swiglu.h"

namespace braid {

at::Tensor clamped_swiglu_reference(const at::Tensor& gate, const at::Tensor& up, double limit) {
  const auto a = widened(gate).clamp_max(limit), b = widened(up).clamp(-limit, limit);
  return (at::silu(a) * b).to(gate.scalar_type());
}

}  // namespace braid
