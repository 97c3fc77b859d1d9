// Local letters: K rows of fn, base and scale: M of pre, M of post, M * M of the matrix.
#include "kernels/mhc.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/profile.h"
#include "kernels/autograd.h"
#include "kernels/mhc_cpu.h"
#include "kernels/precision.h"
#include "kernels/run_kernel.h"

namespace braid {
namespace {

template <class T>
MhcProblem<T> problem(const at::Tensor& X,
                      const at::Tensor& fn,
                      const at::Tensor& base,
                      const at::Tensor& scale,
                      const at::Tensor& norm,
                      const MhcOptions& options) {
  return {X.size(-2),
          X.size(-1),
          fn.size(0),
          options.iterations,
          static_cast<T>(options.hc_eps),
          static_cast<T>(options.norm_eps),
          data<T>(fn),
          data<T>(base),
          data<T>(scale),
          data<T>(norm)};
}

template <class E, class T>
MhcResults<E, T> results(const at::Tensor& h,
                         const at::Tensor& post,
                         const at::Tensor& mix,
                         const at::Tensor& pre,
                         const at::Tensor& m,
                         const at::Tensor& inverse) {
  return {data<E>(h),
          data<T>(post),
          data<T>(mix),
          data<T>(pre),
          data<T>(m),
          data<T>(inverse),
          data<T>(inverse) + inverse.size(1)};
}

enum Saved { kX, kFn, kBase, kScale, kNorm, kPre, kM, kInverse, kPost };

class EnterFunction : public Function<EnterFunction> {
 public:
  // -> h, and where fn has rows for it: X, post, mix, pre.
  static variable_list forward(AutogradContext* ctx,
                               const at::Tensor& given_X,
                               const at::Tensor& fn,
                               const at::Tensor& base,
                               const at::Tensor& scale,
                               const at::Tensor& norm,
                               const MhcOptions& options) {
    const auto X = given_X.contiguous();
    const int64_t tokens = X.numel() / (X.size(-2) * X.size(-1)), M = X.size(-2), K = fn.size(0);
    const auto wide = fn.options().requires_grad(false);
    const auto leading = X.sizes().slice(0, X.dim() - 2);
    const auto shaped = [&](std::initializer_list<int64_t> last) {
      auto shape = leading.vec();
      shape.insert(shape.end(), last);
      return shape;
    };
    const bool mixes = K > M;
    const auto h = at::empty(shaped({X.size(-1)}), X.options().requires_grad(false)),
               pre = at::empty(shaped({M}), wide), m = at::empty({tokens, K}, wide),
               inverse = at::empty({2, tokens}, wide);
    const auto post = mixes ? at::empty(shaped({M}), wide) : at::Tensor(),
               mix = mixes ? at::empty(shaped({M, M}), wide) : at::Tensor();
    with_activation_type(X.scalar_type(), [&](auto e, auto t) {
      using E = decltype(e);
      using T = decltype(t);
      const auto p = problem<T>(X, fn, base, scale, norm, options);
      const auto out = results<E, T>(h, post, mix, pre, m, inverse);
      BRAID_RUN(E, X, mhc_enter_forward, p, data<E>(X), out, tokens);
    });
    if (!X.is_cpu()) {  // the CPU's products count themselves
      count_flops(2 * X.numel() * K);
    }
    ctx->save_for_backward({X, fn, base, scale, norm, pre, m, inverse, post});
    ctx->saved_data["iterations"] = options.iterations;
    ctx->saved_data["hc_eps"] = options.hc_eps;
    ctx->saved_data["norm_eps"] = options.norm_eps;
    if (!mixes) {
      return {h};
    }
    ctx->mark_non_differentiable({pre});
    return {h, X, post, mix, pre};
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto& X = saved[kX];
    const MhcOptions options{ctx->saved_data["iterations"].toInt(),
                             ctx->saved_data["hc_eps"].toDouble(),
                             ctx->saved_data["norm_eps"].toDouble()};
    const bool mixes = gradients.size() > 1;
    const auto dh = gradients[0].contiguous();
    const auto dpost = mixes ? gradients[2].contiguous() : at::Tensor(),
               dmix = mixes ? gradients[3].contiguous() : at::Tensor();
    const bool in_place = mixes && is_exclusively_owned(gradients[1]);
    const auto carried = !mixes     ? at::Tensor()
                         : in_place ? gradients[1]
                                    : gradients[1].contiguous();
    const auto dX = in_place ? carried : at::empty_like(X);
    const int64_t M = X.size(-2), D = X.size(-1), K = saved[kFn].size(0), size = M * D;
    const MhcParts parts(X.numel() / size);
    // Of each part: dfn, dbase, dscale, dnorm.
    const int64_t width = K * size + K + saved[kScale].numel() + D;
    const auto sums = at::zeros({parts.count(), width}, saved[kFn].options());
    with_activation_type(X.scalar_type(), [&](auto e, auto t) {
      using E = decltype(e);
      using T = decltype(t);
      T* first = data<T>(sums);
      const auto p = problem<T>(X, saved[kFn], saved[kBase], saved[kScale], saved[kNorm], options);
      const auto given =
          results<E, T>({}, saved[kPost], {}, saved[kPre], saved[kM], saved[kInverse]);
      const MhcGradients<E, T> g{data<E>(dh),
                                 data<E>(carried),
                                 data<T>(dpost),
                                 data<T>(dmix),
                                 data<E>(dX),
                                 first,
                                 first + K * size,
                                 first + K * size + K,
                                 first + width - D};
      if (X.is_cpu()) {
        mhc_enter_backward_cpu(p, data<E>(X), given, g, parts, width);
      } else {
        const auto slopes = at::empty({2, parts.tokens, K}, saved[kFn].options());
        queue_kernel<E>(X,
                        BRAID_KERNEL(mhc_enter_backward),
                        p,
                        data<E>(X),
                        given,
                        g,
                        parts,
                        width,
                        data<T>(slopes));
        count_flops(4 * X.numel() * K);
      }
    });
    const auto sum = parts.count() == 1 ? sums[0] : sums.sum(0);
    return {dX,
            sum.narrow(0, 0, K * size).view({K, size}),
            sum.narrow(0, K * size, K),
            sum.narrow(0, K * size + K, saved[kScale].numel()),
            sum.narrow(0, width - D, D),
            at::Tensor()};  // options have none
  }
};

void require_fitting(const char* name,
                     const at::Tensor& X,
                     const MhcWeights& weights,
                     const at::Tensor& norm,
                     int64_t rows,
                     int64_t scales) {
  const bool fits = X.dim() >= 2 && weights.fn.dim() == 2 && weights.fn.size(0) == rows &&
                    weights.fn.size(1) == X.size(-2) * X.size(-1) &&
                    weights.base_K.numel() == rows && weights.scale_3.numel() == scales &&
                    norm.numel() == X.size(-1);
  require(fits,
          "[",
          name,
          "] shapes do not fit: streams ",
          X.sizes(),
          ", fn ",
          weights.fn.sizes(),
          ", base ",
          weights.base_K.sizes(),
          ", scale ",
          weights.scale_3.sizes(),
          ", norm ",
          norm.sizes());
}

// Whether the twin takes these streams.
bool is_plain(const at::Tensor& X, const MhcOptions& options) {
  const int64_t M = X.size(-2);
  switch (kernel_of(X, BRAID_KERNEL(mhc_enter_forward))) {
    case Kernel::kCpu:
      return M > kMaxStreams;
    case Kernel::kCuda:
      return !has_cuda_streams(M, X.size(-1), options.iterations);
    default:
      return true;
  }
}

variable_list entered(const at::Tensor& X,
                      const MhcWeights& weights,
                      const at::Tensor& norm,
                      const MhcOptions& options) {
  const auto wide = [type = wide_type(X)](const at::Tensor& t) { return t.to(type).contiguous(); };
  return EnterFunction::apply(
      X, wide(weights.fn), wide(weights.base_K), wide(weights.scale_3), wide(norm), options);
}

}  // namespace

EnteredStreams enter_streams(const at::Tensor& X_TMD,
                             const MhcWeights& weights,
                             const at::Tensor& norm_D,
                             const MhcOptions& options) {
  const int64_t M = X_TMD.size(-2);
  require_fitting("enter_streams", X_TMD, weights, norm_D, (2 + M) * M, 3);
  if (is_plain(X_TMD, options)) {
    return enter_streams_reference(X_TMD, weights, norm_D, options);
  }
  const auto results = entered(X_TMD, weights, norm_D, options);
  return {results[0], results[1], results[4], results[2], results[3]};
}

at::Tensor join_streams(const at::Tensor& X_TMD,
                        const MhcWeights& weights,
                        const at::Tensor& norm_D,
                        const MhcOptions& options) {
  require_fitting("join_streams", X_TMD, weights, norm_D, X_TMD.size(-2), 1);
  if (is_plain(X_TMD, options)) {
    return join_streams_reference(X_TMD, weights, norm_D, options);
  }
  return entered(X_TMD, weights, norm_D, options)[0];
}

}  // namespace braid
