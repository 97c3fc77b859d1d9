#include "kernels/swiglu.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/autograd.h"
#include "kernels/run_kernel.h"
#include "kernels/swiglu_cpu.h"

namespace braid {
namespace {

template <class E, class T>
SwigluProblem<E, T> problem(const at::Tensor& gate,
                            const at::Tensor& up,
                            const at::Tensor& weight,
                            double limit) {
  const int64_t F = gate.size(-1);
  return {gate.numel() / F, F, static_cast<T>(limit), data<E>(gate), data<E>(up), data<T>(weight)};
}

}  // namespace

at::Tensor swiglu_rows(const at::Tensor& gate,
                       const at::Tensor& up,
                       const at::Tensor& weight,
                       double limit) {
  const auto h = at::empty_like(gate);
  with_activation_type(gate.scalar_type(), [&](auto e, auto t) {
    using E = decltype(e);
    using T = decltype(t);
    const auto p = problem<E, T>(gate, up, weight, limit);
    BRAID_RUN(E, gate, swiglu_forward, p, data<E>(h));
  });
  return h;
}

SwigluGradients swiglu_rows_backward(const at::Tensor& gate,
                                     const at::Tensor& up,
                                     const at::Tensor& weight,
                                     const at::Tensor& dh,
                                     double limit) {
  SwigluGradients result{
      at::empty_like(gate), at::empty_like(up), weight.defined() ? at::empty_like(weight) : weight};
  with_activation_type(gate.scalar_type(), [&](auto e, auto t) {
    using E = decltype(e);
    using T = decltype(t);
    const auto p = problem<E, T>(gate, up, weight, limit);
    BRAID_RUN(E,
              gate,
              swiglu_backward,
              p,
              data<E>(dh),
              data<E>(result.dgate),
              data<E>(result.dup),
              data<T>(result.dweight));
  });
  return result;
}

namespace {

class SwigluFunction : public Function<SwigluFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx,
                            const at::Tensor& given_gate,
                            const at::Tensor& given_up,
                            double limit) {
    const auto gate = given_gate.contiguous(), up = given_up.contiguous();
    ctx->save_for_backward({gate, up});
    ctx->saved_data["limit"] = limit;
    return swiglu_rows(gate, up, {}, limit);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const double limit = ctx->saved_data["limit"].toDouble();
    const auto result =
        swiglu_rows_backward(saved[0], saved[1], {}, gradients[0].contiguous(), limit);
    return {result.dgate, result.dup, at::Tensor()};  // the limit has no gradient
  }
};

}  // namespace

at::Tensor clamped_swiglu(const at::Tensor& gate, const at::Tensor& up, double limit) {
  require(gate.sizes() == up.sizes(),
          "[clamped_swiglu] gate is ",
          gate.sizes(),
          " but up is ",
          up.sizes());
  if (kernel_of(gate, BRAID_KERNEL(swiglu_forward)) == Kernel::kPlain) {
    return clamped_swiglu_reference(gate, up, limit);
  }
  return SwigluFunction::apply(gate, up, limit);
}

}  // namespace braid
