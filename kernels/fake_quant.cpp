#include "kernels/fake_quant.h"

#include <bit>
#include <cmath>

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/autograd.h"
#include "kernels/codec.h"
#include "kernels/device.h"

namespace braid {
namespace {

at::ScalarType decoded_type(const at::Tensor& like) {
  const auto type = like.scalar_type();
  return type == at::kDouble || type == at::kBFloat16 ? type : at::kFloat;
}

at::Tensor rounded_matrix(const at::Tensor& w, QuantFormat format) {
  const auto codes =
      format == QuantFormat::kFp4 ? encode_fp4(w) : encode_fp8(w, at::kFloat8_e8m0fnu);
  return decode(codes, decoded_type(w));
}

// Matrix by matrix: the codes of a whole stack are never in memory.
class FakeQuantized : public Function<FakeQuantized> {
 public:
  static at::Tensor forward(AutogradContext*, const at::Tensor& w, QuantFormat format) {
    auto rounded = at::empty_like(w, w.options(), at::MemoryFormat::Contiguous);
    if (w.dim() == 2) {
      rounded.copy_(rounded_matrix(w, format));
    } else {
      for (int64_t e = 0; e < w.size(0); ++e) {
        rounded.select(0, e).copy_(rounded_matrix(w.select(0, e), format));
      }
    }
    return rounded;
  }
  static variable_list backward(AutogradContext*, variable_list gradients) {
    return {gradients[0], at::Tensor()};
  }
};

class FakeActivations : public Function<FakeActivations> {
 public:
  static at::Tensor forward(AutogradContext*, const at::Tensor& x) {
    const auto x_TH = x.reshape({-1, x.size(-1)});
    const auto finite = x_TH.isfinite();
    const bool all_finite = finite.all().item<bool>();
    const auto rounded = rounded_matrix(
        all_finite ? x_TH : x_TH.masked_fill(finite.logical_not(), 0), QuantFormat::kFp4);
    return (all_finite ? rounded : at::where(finite, rounded, x_TH)).view(x.sizes());
  }
  static variable_list backward(AutogradContext*, variable_list gradients) {
    return {gradients[0]};
  }
};

}  // namespace

at::Tensor fake_quantized(const at::Tensor& w, QuantFormat format) {
  if (format == QuantFormat::kOff) {
    return w;
  }
  return kernel_of(w) == Kernel::kPlain ? fake_quantized_reference(w, format)
                                        : FakeQuantized::apply(w, format);
}

at::Tensor fake_fp4_activations(const at::Tensor& x) {
  return kernel_of(x) == Kernel::kPlain ? fake_fp4_activations_reference(x)
                                        : FakeActivations::apply(x);
}

at::Tensor hadamard_matrix(int64_t n, const at::TensorOptions& options) {
  require(n > 0 && std::has_single_bit(static_cast<uint64_t>(n)),
          "[hadamard] ",
          n,
          " channels are not a power of two");
  auto matrix = at::empty({n, n}, at::kDouble);
  const double unit = 1 / std::sqrt(static_cast<double>(n));
  double* entries = matrix.data_ptr<double>();
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      entries[i * n + j] = std::popcount(static_cast<uint64_t>(i & j)) % 2 == 0 ? unit : -unit;
    }
  }
  return matrix.to(options);
}

}  // namespace braid
