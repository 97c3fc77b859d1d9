#include "kernels/rope.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/autograd.h"
#include "kernels/cpu/bf16_rows.h"
#include "kernels/cpu/rope_loops.h"
#include "kernels/precision.h"

namespace braid {
namespace {

// x [tokens, N, H], cos and sin [tokens, P/2] wide, all contiguous.
at::Tensor rotated(const at::Tensor& x,
                   const at::Tensor& cos,
                   const at::Tensor& sin,
                   bool inverse) {
  auto y = at::empty_like(x);
  const int64_t N = x.size(1), H = x.size(2), P = 2 * cos.size(1);
  with_wide_type(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    parallel_rows(x.size(0), N * H / 2, [&](int64_t begin, int64_t end) {
      RowsIn<T> in(x, N * H);
      RowsOut<T> out(y, N * H);
      in_row_blocks(begin, end, N * H, [&](int64_t token, int64_t tokens) {
        BRAID_CPU(rope_rotate<T>)
        (in.at(token, tokens),
         cos.const_data_ptr<T>() + token * P / 2,
         sin.const_data_ptr<T>() + token * P / 2,
         out.at(token, tokens),
         tokens,
         N,
         H,
         P,
         static_cast<T>(inverse ? -1 : 1));
        out.put();
      });
    });
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
  require(2 * half <= H && cos.sizes() == sin.sizes() && cos.dim() == x.dim(),
          "[rope] x is ",
          x.sizes(),
          ", cos ",
          cos.sizes(),
          ", sin ",
          sin.sizes());
  // One rotation may serve N heads: a size-1 axis of cos before the channels.
  const bool heads = x.dim() > 1 && cos.size(-2) == 1 && x.size(-2) != 1;
  const int64_t N = heads ? x.size(-2) : 1;
  const auto x_TNH = x.reshape({-1, N, H});
  const auto cos_TP = cos.to(wide_type(x)).reshape({-1, half}).contiguous();
  const auto sin_TP = sin.to(wide_type(x)).reshape({-1, half}).contiguous();
  require(cos_TP.size(0) == x_TNH.size(0),
          "[rope] ",
          x_TNH.size(0),
          " tokens but ",
          cos_TP.size(0),
          " rotations");
  return RopeFunction::apply(x_TNH, cos_TP, sin_TP, inverse).view(x.sizes());
}

}  // namespace braid
