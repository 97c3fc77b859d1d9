#include "kernels/streams.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/autograd.h"
#include "kernels/precision.h"
#include "kernels/run_kernel.h"
#include "kernels/streams_cpu.h"

namespace braid {
namespace {

template <class T>
CollapseProblem<T> collapse_problem(const at::Tensor& X, const at::Tensor& pre) {
  const int64_t M = X.size(-2), D = X.size(-1);
  return {X.numel() / (M * D), M, D, data<T>(X), data<T>(pre)};
}

class CollapseFunction : public Function<CollapseFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx,
                            const at::Tensor& given_X,
                            const at::Tensor& given_pre) {
    const auto X = given_X.contiguous(), pre = given_pre.contiguous();
    auto shape = X.sizes().vec();
    shape.erase(shape.end() - 2);
    const auto x = at::empty(shape, X.options());
    with_wide_type(X.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      collapse_forward_cpu(collapse_problem<T>(X, pre), data<T>(x));
    });
    ctx->save_for_backward({X, pre});
    return x;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &X = saved[0], &pre = saved[1];
    const auto dx = gradients[0].contiguous();
    const auto dX = at::empty_like(X), dpre = at::empty_like(pre);
    with_wide_type(X.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      collapse_backward_cpu(collapse_problem<T>(X, pre), data<T>(dx), data<T>(dX), data<T>(dpre));
    });
    return {dX, dpre};
  }
};

template <class E, class T>
ExpandProblem<E, T> expand_problem(const at::Tensor& X,
                                   const at::Tensor& y,
                                   const at::Tensor& post,
                                   const at::Tensor& mix) {
  const int64_t M = X.size(-2), D = X.size(-1);
  return {X.numel() / (M * D), M, D, data<E>(X), data<E>(y), data<T>(post), data<T>(mix)};
}

class ExpandFunction : public Function<ExpandFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx,
                            const at::Tensor& given_X,
                            const at::Tensor& given_y,
                            const at::Tensor& given_post,
                            const at::Tensor& given_mix) {
    const auto X = given_X.contiguous(), y = given_y.contiguous();
    const auto post = given_post.contiguous(), mix = given_mix.contiguous();
    const auto out = at::empty_like(X);
    with_activation_type(X.scalar_type(), [&](auto e, auto t) {
      using E = decltype(e);
      using T = decltype(t);
      const auto problem = expand_problem<E, T>(X, y, post, mix);
      BRAID_RUN(E, X, expand_forward, problem, data<E>(out));
    });
    ctx->save_for_backward({X, y, post, mix});
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &X = saved[0], &y = saved[1], &post = saved[2], &mix = saved[3];
    const bool in_place =
        X.is_cpu() && expands_in_place(X.size(-2)) && is_exclusively_owned(gradients[0]);
    const auto dout = gradients[0].contiguous();
    const auto dX = in_place ? dout : at::empty_like(X);
    const auto dy = at::empty_like(y), dpost = at::empty_like(post), dmix = at::empty_like(mix);
    with_activation_type(X.scalar_type(), [&](auto e, auto t) {
      using E = decltype(e);
      using T = decltype(t);
      const auto problem = expand_problem<E, T>(X, y, post, mix);
      const ExpandGradients<E, T> wanted{data<E>(dX), data<E>(dy), data<T>(dpost), data<T>(dmix)};
      BRAID_RUN(E, X, expand_backward, problem, data<E>(dout), wanted);
    });
    return {dX, dy, dpost, dmix};
  }
};

}  // namespace

at::Tensor collapse_streams(const at::Tensor& X_TMD, const at::Tensor& pre_TM) {
  require(pre_TM.sizes() == X_TMD.sizes().slice(0, X_TMD.dim() - 1),
          "[collapse_streams] streams are ",
          X_TMD.sizes(),
          ", weights ",
          pre_TM.sizes());
  if (kernel_of(X_TMD) == Kernel::kPlain) {
    return collapse_streams_reference(X_TMD, pre_TM);
  }
  return CollapseFunction::apply(widened(X_TMD), pre_TM).to(X_TMD.scalar_type());
}

at::Tensor expand_streams(const at::Tensor& X_TMD,
                          const at::Tensor& y_TD,
                          const at::Tensor& post_TM,
                          const at::Tensor& mix_TMM) {
  // Narrow streams are widened in the kernel.
  const auto streams = X_TMD.sizes();
  auto output = streams.vec(), mixing = streams.vec();
  output.erase(output.end() - 2);
  mixing.back() = X_TMD.size(-2);
  require(y_TD.sizes() == output && post_TM.sizes() == streams.slice(0, X_TMD.dim() - 1) &&
              mix_TMM.sizes() == mixing,
          "[expand_streams] streams are ",
          streams,
          ", the output ",
          y_TD.sizes(),
          ", its weights ",
          post_TM.sizes(),
          ", the mixing ",
          mix_TMM.sizes());
  const auto kernel = kernel_of(X_TMD, BRAID_KERNEL(expand_forward));
  if (kernel == Kernel::kPlain ||
      (kernel == Kernel::kCuda && !has_cuda_streams(X_TMD.size(-2), X_TMD.size(-1)))) {
    return expand_streams_reference(X_TMD, y_TD, post_TM, mix_TMM);
  }
  return ExpandFunction::apply(X_TMD, y_TD, post_TM, mix_TMM);
}

}  // namespace braid
