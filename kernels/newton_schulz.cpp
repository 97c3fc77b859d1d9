#include "kernels/newton_schulz.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/device.h"
#include "kernels/newton_schulz_cpu.h"

namespace braid {

at::Tensor newton_schulz(const at::Tensor& x_Brc, const NewtonSchulzOptions& options) {
  const auto [B, rows, cols] = sizes<3>(x_Brc);
  require(x_Brc.scalar_type() == at::kFloat || x_Brc.scalar_type() == at::kDouble,
          "[newton_schulz] expected float32 or float64, got ",
          x_Brc.scalar_type());
  if (kernel_of(x_Brc) == Kernel::kPlain) {
    return newton_schulz_reference(x_Brc, options);
  }
  const NewtonSchulzProblem problem{B,
                                    rows,
                                    cols,
                                    newton_schulz_polynomials(options),
                                    options.bfloat16_products,
                                    in_gram_form(rows, cols, options)};
  const auto x = x_Brc.contiguous(), result = at::empty_like(x);
  with_wide_type(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    newton_schulz_cpu<T>(problem, x.const_data_ptr<T>(), data<T>(result));
  });
  return result;
}

bool in_gram_form(int64_t rows, int64_t cols, const NewtonSchulzOptions& options) {
  const auto n = static_cast<double>(std::min(rows, cols)),
             m = static_cast<double>(std::max(rows, cols));
  return options.gram == GramForm::kAlways ||
         (options.gram == GramForm::kAuto && m >= kGramAspect * n);
}

std::vector<std::array<double, 3>> newton_schulz_polynomials(const NewtonSchulzOptions& options) {
  std::vector<std::array<double, 3>> polynomials(options.steps, {3.4445, -4.7750, 2.0315});
  polynomials.insert(polynomials.end(), options.final_steps, {2.0, -1.5, 0.5});
  return polynomials;
}

NewtonSchulzFlops newton_schulz_iteration_flops(int64_t rows, int64_t cols) {
  return newton_schulz_flops(rows, cols, {.steps = 1, .final_steps = 0});
}

NewtonSchulzFlops newton_schulz_flops(int64_t rows,
                                      int64_t cols,
                                      const NewtonSchulzOptions& options) {
  const auto n = static_cast<double>(std::min(rows, cols)),
             m = static_cast<double>(std::max(rows, cols));
  const double nnm = n * n * m, nnn = n * n * n;
  const int64_t iterations = options.steps + options.final_steps;
  const bool gram = in_gram_form(rows, cols, options);
  const auto twos = static_cast<double>(gram ? iterations / 2 : 0),
             ones = static_cast<double>(gram ? iterations % 2 : iterations);
  return {ones * (4 * nnm + 2 * nnn) + twos * (4 * nnm + 10 * nnn),
          ones * (3 * nnm + nnn) + twos * (3 * nnm + 5 * nnn)};
}

}  // namespace braid
