#include "kernels/rms_norm.h"

#include <optional>

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/autograd.h"
#include "kernels/precision.h"
#include "kernels/rms_norm_cpu.h"
#include "kernels/run_kernel.h"

namespace braid {
namespace {

template <class E, class T>
RmsNormProblem<E, T> problem(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const int64_t D = x.size(-1);
  return {x.numel() / D, D, static_cast<T>(eps), data<E>(x), data<T>(weight)};
}

class RmsNormFunction : public Function<RmsNormFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx,
                            const at::Tensor& given,
                            const std::optional<at::Tensor>& given_weight,
                            double eps) {
    const auto x = given.contiguous(), weight = given_weight.value_or(at::Tensor());
    const auto y = at::empty_like(x),
               inverse_rms = at::empty({x.numel() / x.size(-1)}, x.options().dtype(wide_type(x)));
    with_activation_type(x.scalar_type(), [&](auto e, auto t) {
      using E = decltype(e);
      using T = decltype(t);
      const auto p = problem<E, T>(x, weight, eps);
      BRAID_RUN(E, x, rms_norm_forward, p, data<E>(y), data<T>(inverse_rms));
    });
    ctx->save_for_backward({x, weight, inverse_rms});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1], &inverse_rms = saved[2];
    const auto dy = gradients[0].contiguous();
    const int64_t D = x.size(-1),
                  parts = x.is_cpu() ? kRmsNormParts : cuda_rms_norm_parts(x.numel() / D, D);
    const auto dx = at::empty_like(x), dweight_parts = weight.defined()
                                                           ? at::zeros({parts, D}, weight.options())
                                                           : at::Tensor();
    with_activation_type(x.scalar_type(), [&](auto e, auto t) {
      using E = decltype(e);
      using T = decltype(t);
      const auto p = problem<E, T>(x, weight, /*eps=*/0);  // it is in inverse_rms
      BRAID_RUN(E,
                x,
                rms_norm_backward,
                p,
                data<T>(inverse_rms),
                data<E>(dy),
                data<E>(dx),
                data<T>(dweight_parts),
                parts);
    });
    return {
        dx, weight.defined() ? dweight_parts.sum(0) : at::Tensor(), at::Tensor()};  // eps has none
  }
};

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  require(!weight.defined() || (weight.dim() == 1 && weight.size(0) == x.size(-1)),
          "[rms_norm] x has last dim ",
          x.size(-1),
          " but weight is ",
          weight.defined() ? weight.sizes() : at::IntArrayRef());
  const auto kernel = kernel_of(x, BRAID_KERNEL(rms_norm_forward));
  if (kernel == Kernel::kPlain || (kernel == Kernel::kCuda && x.size(-1) > kCudaRmsNormWidth)) {
    return rms_norm_reference(x, weight, eps);
  }
  std::optional<at::Tensor> wide_weight;
  if (weight.defined()) {
    wide_weight = weight.to(wide_type(x)).contiguous();
  }
  return RmsNormFunction::apply(x, wide_weight, eps);
}

}  // namespace braid
