#pragma once
// Small helpers of the hand-written autograd Functions.
#include <cstdint>

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/custom_function.h>

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

/// Splits `count` rows among the threads; `work` is the cost of one row in about nanoseconds.
template <class F>
void parallel_rows(int64_t count, int64_t work, const F& f) {
  constexpr int64_t kWorthAThread = 20000;
  at::parallel_for(0, count, 1 + kWorthAThread / (work + 1), f);
}

}  // namespace braid
