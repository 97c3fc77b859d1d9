#include "kernels/rope.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/autograd.h"
#include "kernels/precision.h"
#include "kernels/rope_cpu.h"
#include "kernels/run_kernel.h"

namespace braid {
namespace {

// x [tokens, N, H], cos and sin [tokens, P/2] wide, all contiguous.
at::Tensor rotated(const at::Tensor& x,
                   const at::Tensor& cos,
                   const at::Tensor& sin,
                   bool inverse) {
  const auto y = at::empty_like(x);
  with_activation_type(x.scalar_type(), [&](auto e, auto t) {
    using E = decltype(e);
    using T = decltype(t);
    const RopeProblem<T> problem{
        x.size(0), x.size(1), x.size(2), 2 * cos.size(1), data<T>(cos), data<T>(sin), inverse};
    BRAID_RUN(E, x, rope, problem, data<E>(x), data<E>(y));
  });
  return y;
}

class RopeFunction : public Function<RopeFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx,
                            const at::Tensor& x,
                            const at::Tensor& cos,
                            const at::Tensor& sin,
                            bool inverse) {
    ctx->save_for_backward({cos, sin});
    ctx->saved_data["inverse"] = inverse;
    return rotated(x.contiguous(), cos, sin, inverse);
  }

  // A rotation's gradient is rotated back.
  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const bool inverse = ctx->saved_data["inverse"].toBool();
    return {rotated(gradients[0].contiguous(), saved[0], saved[1], !inverse),
            at::Tensor(),
            at::Tensor(),
            at::Tensor()};
  }
};

}  // namespace

at::Tensor rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse) {
  const int64_t H = x.size(-1), half = cos.size(-1);
  require(half > 0 && 2 * half <= H && cos.sizes() == sin.sizes() && cos.dim() == x.dim(),
          "[rope] x is ",
          x.sizes(),
          ", cos ",
          cos.sizes(),
          ", sin ",
          sin.sizes());
  // One rotation may serve N heads: a size-1 axis of cos before the channels.
  const bool heads = x.dim() > 1 && cos.size(-2) == 1 && x.size(-2) != 1;
  const int64_t N = heads ? std::max<int64_t>(1, x.size(-2)) : 1;
  const int64_t tokens = x.numel() / (N * H), rotations = cos.numel() / half;
  require(rotations == tokens, "[rope] ", tokens, " tokens but ", rotations, " rotations");
  const auto wide_cos = cos.to(wide_type(x)), wide_sin = sin.to(wide_type(x));
  if (kernel_of(x, BRAID_KERNEL(rope)) == Kernel::kPlain) {
    return rope_reference(x, wide_cos, wide_sin, inverse);
  }
  const auto x_TNH = x.reshape({tokens, N, H});
  const auto cos_TP = wide_cos.reshape({tokens, half}).contiguous(),
             sin_TP = wide_sin.reshape({tokens, half}).contiguous();
  return RopeFunction::apply(x_TNH, cos_TP, sin_TP, inverse).view(x.sizes());
}

}  // namespace braid
