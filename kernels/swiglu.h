#pragma once
#include <ATen/core/Tensor.h>

namespace braid {

/// h = silu(min(gate, limit)) * clamp(up, -limit, limit), wide inside, in gate's type outside.
/// gate, up of one shape and type. The clamps come before silu and product; they pass gradient
/// where |value| <= limit (equality included) and none outside. Source: DeepSeek-V4 report 4.2.2,
/// release code.
at::Tensor clamped_swiglu(const at::Tensor& gate, const at::Tensor& up, double limit);

/// Rows of the same with an optional factor weight [rows] each, without autograd: what the CPU's
/// routed_experts is made of. All tensors contiguous, on the CPU or a device with kernels for it;
/// weight is wide, the others of one type.
at::Tensor swiglu_rows(const at::Tensor& gate,
                       const at::Tensor& up,
                       const at::Tensor& weight,
                       double limit);
struct SwigluGradients {
  at::Tensor dgate, dup, dweight;
};
SwigluGradients swiglu_rows_backward(const at::Tensor& gate,
                                     const at::Tensor& up,
                                     const at::Tensor& weight,
                                     const at::Tensor& dh,
                                     double limit);

/// The same in plain LibTorch.
at::Tensor clamped_swiglu_reference(const at::Tensor& gate, const at::Tensor& up, double limit);

}  // namespace braid
