#pragma once
#include <optional>

#include <ATen/core/Tensor.h>

namespace braid {

/// Sum of the squares of a contiguous float32 or float64 tensor in double, in one pass: fixed
/// pieces, added in their order, so that the bits do not depend on threads. NaN or infinite exactly
/// when an element is (a float32 element cannot overflow the sum).
double squared_norm(const at::Tensor& x);
template <class T>
double squared_norm(const T* x, int64_t count);

/// What gradients of global norm `norm` are multiplied by so that they are no longer than
/// `max_norm`; 1 where they are not, or where the norm is not finite: the caller skips the step.
double clip_factor(double norm, std::optional<double> max_norm);

}  // namespace braid
