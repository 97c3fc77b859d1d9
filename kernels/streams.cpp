#include "kernels/streams.h"

#include <ATen/ATen.h>

#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/cpu/streams_loops.h"
#include "kernels/precision.h"

namespace braid {
namespace {

class CollapseFunction : public Function<CollapseFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx,
                            const at::Tensor& given_X,
                            const at::Tensor& given_pre) {
    const auto X = given_X.contiguous(), pre = given_pre.contiguous();
    const int64_t M = X.size(-2), D = X.size(-1);
    auto shape = X.sizes().vec();
    shape.erase(shape.end() - 2);
    auto x = at::empty(shape, X.options());
    with_wide_type(X.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      parallel_rows(x.numel() / D, M * D / 4, [&](int64_t begin, int64_t end) {
        BRAID_CPU(collapse_forward<T>)
        (X.data_ptr<T>() + begin * M * D,
         pre.data_ptr<T>() + begin * M,
         x.data_ptr<T>() + begin * D,
         end - begin,
         M,
         D);
      });
    });
    ctx->save_for_backward({X, pre});
    return x;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &X = saved[0], &pre = saved[1];
    const auto dx = gradients[0].contiguous();
    auto dX = at::empty_like(X), dpre = at::empty_like(pre);
    const int64_t M = X.size(-2), D = X.size(-1);
    with_wide_type(X.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      parallel_rows(dx.numel() / D, M * D / 2, [&](int64_t begin, int64_t end) {
        BRAID_CPU(collapse_backward<T>)
        (X.data_ptr<T>() + begin * M * D,
         pre.data_ptr<T>() + begin * M,
         dx.data_ptr<T>() + begin * D,
         dX.data_ptr<T>() + begin * M * D,
         dpre.data_ptr<T>() + begin * M,
         end - begin,
         M,
         D);
      });
    });
    return {dX, dpre};
  }
};

class ExpandFunction : public Function<ExpandFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx,
                            const at::Tensor& given_X,
                            const at::Tensor& given_y,
                            const at::Tensor& given_post,
                            const at::Tensor& given_mix) {
    const auto X = given_X.contiguous(), y = given_y.contiguous();
    const auto post = given_post.contiguous(), mix = given_mix.contiguous();
    const int64_t M = X.size(-2), D = X.size(-1);
    auto out = at::empty_like(X);
    with_activation_type(X.scalar_type(), [&](auto e, auto t) {
      using E = decltype(e);
      using T = decltype(t);
      parallel_rows(y.numel() / D, M * M * D / 16, [&](int64_t begin, int64_t end) {
        BRAID_CPU(expand_forward<E, T>)
        (data<E>(X) + begin * M * D,
         data<E>(y) + begin * D,
         data<T>(post) + begin * M,
         data<T>(mix) + begin * M * M,
         data<E>(out) + begin * M * D,
         end - begin,
         M,
         D);
      });
    });
    ctx->save_for_backward({X, y, post, mix});
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &X = saved[0], &y = saved[1], &post = saved[2], &mix = saved[3];
    const auto dout = gradients[0].contiguous();
    auto dX = at::empty_like(X), dy = at::empty_like(y), dpost = at::empty_like(post),
         dmix = at::empty_like(mix);
    const int64_t M = X.size(-2), D = X.size(-1);
    with_activation_type(X.scalar_type(), [&](auto e, auto t) {
      using E = decltype(e);
      using T = decltype(t);
      parallel_rows(y.numel() / D, M * M * D / 8, [&](int64_t begin, int64_t end) {
        BRAID_CPU(expand_backward<E, T>)
        (data<E>(X) + begin * M * D,
         data<E>(y) + begin * D,
         data<T>(post) + begin * M,
         data<T>(mix) + begin * M * M,
         data<E>(dout) + begin * M * D,
         data<E>(dX) + begin * M * D,
         data<E>(dy) + begin * D,
         data<T>(dpost) + begin * M,
         data<T>(dmix) + begin * M * M,
         end - begin,
         M,
         D);
      });
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
  return ExpandFunction::apply(X_TMD, y_TD, post_TM, mix_TMM);
}

}  // namespace braid
