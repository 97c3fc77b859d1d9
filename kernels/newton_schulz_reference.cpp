#include <ATen/ATen.h>

#include "kernels/newton_schulz.h"

namespace braid {

at::Tensor divided_by_norm(const at::Tensor& x_Brc) {
  return x_Brc / at::linalg_vector_norm(x_Brc, 2, at::IntArrayRef{1, 2}, true, at::kDouble)
                     .clamp_min(1e-20)
                     .to(x_Brc.scalar_type());
}

at::Tensor newton_schulz_reference(const at::Tensor& x_Brc, const NewtonSchulzOptions& options) {
  auto x = divided_by_norm(x_Brc);
  const bool is_tall = x.size(1) > x.size(2);
  x = is_tall ? x.transpose(1, 2) : x;
  const auto polynomials = newton_schulz_polynomials(options);
  const auto polynomial = [&](std::size_t i, const at::Tensor& gram) {
    const auto& [a, b, c] = polynomials[i];
    const auto identity = at::eye(gram.size(1), gram.options());
    return a * identity + b * gram + c * at::bmm(gram, gram);
  };
  const bool in_pairs = in_gram_form(x.size(1), x.size(2), options);
  for (std::size_t i = 0; i < polynomials.size(); ++i) {
    const auto gram = at::bmm(x, x.transpose(1, 2));
    auto p = polynomial(i, gram);
    if (in_pairs && i + 1 < polynomials.size()) {
      p = at::bmm(polynomial(++i, at::bmm(at::bmm(gram, p), p)), p);
    }
    x = at::bmm(p, x);
  }
  return is_tall ? x.transpose(1, 2) : x;
}

}  // namespace braid
