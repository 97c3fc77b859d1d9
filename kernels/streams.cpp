#include "kernels/streams.h"

#include <ATen/ATen.h>

#include "core/sizes.h"
#include "kernels/attention_cpu.h"
#include "kernels/autograd.h"
#include "kernels/gemm.h"
#include "kernels/precision.h"
#include "kernels/streams_cpu.h"

namespace braid {
namespace {

// With r = 1 / rms(f) and m = r (f fn^T): df = (r dm) fn - f r^2 / (M D) sum(dm m).
class ProjectFunction : public Function<ProjectFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx,
                            const at::Tensor& given_f,
                            const at::Tensor& fn,
                            double eps) {
    const auto f = given_f.contiguous();
    const int64_t tokens = f.size(0), width = f.size(1);
    auto inverse_rms = at::empty({tokens, 1}, f.options());
    with_wide_type(f.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      parallel_rows(tokens, width / 8, [&](int64_t begin, int64_t end) {
        const T* rows = f.data_ptr<T>() + begin * width;
        BRAID_CPU(row_products<T>)
        (rows, rows, inverse_rms.data_ptr<T>() + begin, end - begin, width);
      });
    });
    inverse_rms.div_(width).add_(eps).rsqrt_();
    const auto m = multiplied(f, fn.t()).mul_(inverse_rms);
    ctx->save_for_backward({f, fn, inverse_rms, m});
    return m;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &f = saved[0], &fn = saved[1], &inverse_rms = saved[2], &m = saved[3];
    const auto &dm = gradients[0], scaled = dm * inverse_rms;
    const auto shift = (dm * m).sum(-1, true).mul_(inverse_rms.square()).div_(-f.size(1));
    return {multiplied(scaled, fn).addcmul_(f, shift),
            multiplied(scaled.t(), f),
            at::Tensor()};  // eps has none
  }
};

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
    with_wide_type(X.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      parallel_rows(y.numel() / D, M * M * D / 4, [&](int64_t begin, int64_t end) {
        BRAID_CPU(expand_forward<T>)
        (X.data_ptr<T>() + begin * M * D,
         y.data_ptr<T>() + begin * D,
         post.data_ptr<T>() + begin * M,
         mix.data_ptr<T>() + begin * M * M,
         out.data_ptr<T>() + begin * M * D,
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
    with_wide_type(X.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      parallel_rows(y.numel() / D, M * M * D / 2, [&](int64_t begin, int64_t end) {
        BRAID_CPU(expand_backward<T>)
        (X.data_ptr<T>() + begin * M * D,
         y.data_ptr<T>() + begin * D,
         post.data_ptr<T>() + begin * M,
         mix.data_ptr<T>() + begin * M * M,
         dout.data_ptr<T>() + begin * M * D,
         dX.data_ptr<T>() + begin * M * D,
         dy.data_ptr<T>() + begin * D,
         dpost.data_ptr<T>() + begin * M,
         dmix.data_ptr<T>() + begin * M * M,
         end - begin,
         M,
         D);
      });
    });
    return {dX, dy, dpost, dmix};
  }
};

}  // namespace

// Narrow streams are widened around the kernel: the arithmetic and its gradients are wide either
// way.
at::Tensor project_streams(const at::Tensor& X_TMD, const at::Tensor& fn, double eps) {
  const int64_t width = X_TMD.size(-2) * X_TMD.size(-1);
  require(fn.dim() == 2 && fn.size(1) == width,
          "[project_streams] streams are ",
          X_TMD.sizes(),
          ", fn ",
          fn.sizes());
  auto shape = X_TMD.sizes().slice(0, X_TMD.dim() - 2).vec();
  shape.push_back(fn.size(0));
  const auto f = widened(X_TMD).reshape({-1, width});
  return ProjectFunction::apply(f, fn.to(f.scalar_type()), eps).view(shape);
}

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
  return ExpandFunction::apply(widened(X_TMD), widened(y_TD), post_TM, mix_TMM)
      .to(X_TMD.scalar_type());
}

}  // namespace braid
