#include <vector>

#include <ATen/ATen.h>

#include "kernels/codec.h"
#include "kernels/fake_quant.h"

namespace braid {
namespace {

// Zero with x's gradient, plus the rounded values.
at::Tensor straight_through(const at::Tensor& x, const at::Tensor& rounded) {
  return (x - x.detach()).nan_to_num(0, 0, 0) + rounded;
}

at::Tensor rounded_matrix(const at::Tensor& w, QuantFormat format) {
  const auto codes = format == QuantFormat::kFp4 ? encode_fp4_reference(w)
                                                 : encode_fp8_reference(w, at::kFloat8_e8m0fnu);
  const bool wide = w.scalar_type() == at::kDouble;
  return decode_reference(codes, wide ? at::kDouble : at::kFloat).to(w.scalar_type());
}

}  // namespace

at::Tensor fake_quantized_reference(const at::Tensor& w, QuantFormat format) {
  if (format == QuantFormat::kOff) {
    return w;
  }
  if (w.dim() == 2) {
    return straight_through(w, rounded_matrix(w.detach(), format));
  }
  std::vector<at::Tensor> matrices;
  for (const auto& matrix : w.detach().unbind(0)) {
    matrices.push_back(rounded_matrix(matrix, format));
  }
  return straight_through(w, at::stack(matrices));
}

at::Tensor fake_fp4_activations_reference(const at::Tensor& x) {
  const auto x_TH = x.detach().reshape({-1, x.size(-1)});
  const auto rounded = rounded_matrix(x_TH.nan_to_num(0, 0, 0), QuantFormat::kFp4);
  return straight_through(x, at::where(x_TH.isfinite(), rounded, x_TH).view(x.sizes()));
}

}  // namespace braid
