#pragma once
#include <ATen/core/Tensor.h>

namespace braid {

/// y = x / sqrt(mean(x^2) + eps) * weight over the last axis; the arithmetic is wide (precision.h)
/// and the weight is applied before the cast back to x's type. weight [last size of x] is
/// optional: an undefined tensor leaves it out. Source: arXiv:1910.07467 eq. 4. Gradients: x,
/// weight.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

/// The same in plain LibTorch.
at::Tensor rms_norm_reference(const at::Tensor& x, const at::Tensor& weight, double eps);

}  // namespace braid
