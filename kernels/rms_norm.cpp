#include "kernels/rms_norm.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/autograd.h"
#include "kernels/cpu/bf16_rows.h"
#include "kernels/cpu/rms_norm_loops.h"
#include "kernels/precision.h"

namespace braid {
namespace {

// The weight's gradient sums over rows in this many fixed parts, so that it does not depend on
// threads.
constexpr int64_t kParts = 16;

class RmsNormFunction : public Function<RmsNormFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx,
                            const at::Tensor& given,
                            const std::optional<at::Tensor>& given_weight,
                            double eps) {
    const auto x = given.contiguous(), weight = given_weight.value_or(at::Tensor());
    const int64_t D = x.size(-1), rows = x.numel() / D;
    auto y = at::empty_like(x), inverse_rms = at::empty({rows}, x.options().dtype(wide_type(x)));
    with_wide_type(x.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      const T* w = weight.defined() ? weight.data_ptr<T>() : nullptr;
      parallel_rows(rows, D / 4, [&](int64_t begin, int64_t end) {
        RowsIn<T> in(x, D);
        RowsOut<T> out(y, D);
        in_row_blocks(begin, end, D, [&](int64_t row, int64_t count) {
          BRAID_CPU(rms_norm_forward<T>)
          (in.at(row, count),
           w,
           out.at(row, count),
           inverse_rms.data_ptr<T>() + row,
           count,
           D,
           static_cast<T>(eps));
          out.put();
        });
      });
    });
    ctx->save_for_backward({x, weight, inverse_rms});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1], &inverse_rms = saved[2];
    const auto dy = gradients[0].contiguous();
    const int64_t D = x.size(-1), rows = x.numel() / D;
    auto dx = at::empty_like(x), dweight_parts = at::Tensor();
    if (weight.defined()) {
      dweight_parts = at::zeros({kParts, D}, weight.options());
    }
    with_wide_type(x.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      const T* w = weight.defined() ? weight.data_ptr<T>() : nullptr;
      parallel_rows(kParts, D * rows / kParts / 2, [&](int64_t first_part, int64_t last_part) {
        RowsIn<T> in(x, D), din(dy, D);
        RowsOut<T> out(dx, D);
        for (int64_t part = first_part; part < last_part; ++part) {
          const int64_t begin = rows * part / kParts, end = rows * (part + 1) / kParts;
          T* dw = w ? dweight_parts.data_ptr<T>() + part * D : nullptr;
          in_row_blocks(begin, end, D, [&](int64_t row, int64_t count) {
            BRAID_CPU(rms_norm_backward<T>)
            (in.at(row, count),
             w,
             inverse_rms.const_data_ptr<T>() + row,
             din.at(row, count),
             out.at(row, count),
             dw,
             count,
             D);
            out.put();
          });
        }
      });
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
  std::optional<at::Tensor> wide_weight;
  if (weight.defined()) {
    wide_weight = weight.to(wide_type(x)).contiguous();
  }
  return RmsNormFunction::apply(x, wide_weight, eps);
}

}  // namespace braid
