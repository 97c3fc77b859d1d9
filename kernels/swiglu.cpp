#include "kernels/swiglu.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/autograd.h"
#include "kernels/cpu/bf16_rows.h"
#include "kernels/cpu/swiglu_loops.h"
#include "kernels/precision.h"

namespace braid {

at::Tensor swiglu_rows(const at::Tensor& gate,
                       const at::Tensor& up,
                       const at::Tensor& weight,
                       double limit) {
  auto h = at::empty_like(gate);
  const int64_t F = gate.size(-1);
  with_wide_type(gate.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T* factor = weight.defined() ? weight.const_data_ptr<T>() : nullptr;
    parallel_rows(gate.numel() / F, F, [&](int64_t begin, int64_t end) {
      RowsIn<T> gates(gate, F), ups(up, F);
      RowsOut<T> out(h, F);
      in_row_blocks(begin, end, F, [&](int64_t row, int64_t rows) {
        BRAID_CPU(swiglu_forward<T>)
        (gates.at(row, rows),
         ups.at(row, rows),
         factor ? factor + row : nullptr,
         out.at(row, rows),
         rows,
         F,
         static_cast<T>(limit));
        out.put();
      });
    });
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
  const int64_t F = gate.size(-1);
  with_wide_type(gate.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T* factor = weight.defined() ? weight.const_data_ptr<T>() : nullptr;
    T* dfactor = weight.defined() ? result.dweight.data_ptr<T>() : nullptr;
    parallel_rows(gate.numel() / F, 2 * F, [&](int64_t begin, int64_t end) {
      RowsIn<T> gates(gate, F), ups(up, F), dhs(dh, F);
      RowsOut<T> dgates(result.dgate, F), dups(result.dup, F);
      in_row_blocks(begin, end, F, [&](int64_t row, int64_t rows) {
        BRAID_CPU(swiglu_backward<T>)
        (gates.at(row, rows),
         ups.at(row, rows),
         factor ? factor + row : nullptr,
         dhs.at(row, rows),
         dgates.at(row, rows),
         dups.at(row, rows),
         dfactor ? dfactor + row : nullptr,
         rows,
         F,
         static_cast<T>(limit));
        dgates.put();
        dups.put();
      });
    });
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
  return SwigluFunction::apply(gate, up, limit);
}

}  // namespace braid
