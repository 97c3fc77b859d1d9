#pragma once
// Small helpers of the hand-written autograd Functions.
#include <cstdint>

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/error.h"
#include "kernels/bfloat16.h"
#include "kernels/cpu/threads.h"

namespace braid {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

/// Calls f(T{}) with float or double, the two types that wide tensors have.
template <class F>
void with_wide_type(at::ScalarType type, const F& f) {
  if (type == at::kDouble) {
    f(double{});
  } else {
    f(float{});
  }
}

/// Calls f(E{}, T{}): the type of activations as kernels see it, and its wide type.
template <class F>
void with_activation_type(at::ScalarType type, const F& f) {
  if (type == at::kDouble) {
    f(double{}, double{});
  } else if (type == at::kFloat) {
    f(float{}, float{});
  } else {
    require(type == at::kBFloat16, "kernels take float64, float32 and bfloat16, not ", type);
    f(Bfloat16{}, float{});
  }
}

/// No one else can see such a gradient: it may become the result.
inline bool is_exclusively_owned(const at::Tensor& gradient) {
  return gradient.is_contiguous() && gradient.use_count() == 1 &&
         gradient.storage().use_count() == 1;
}

/// The elements of a tensor, or null of an undefined one.
template <class E>
E* data(const at::Tensor& t) {
  return t.defined() ? static_cast<E*>(t.mutable_data_ptr()) : nullptr;
}

}  // namespace braid
