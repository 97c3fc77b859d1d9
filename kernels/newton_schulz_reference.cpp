#include <ATen/ATen.h>

#include "kernels/newton_schulz.h"

namespace braid {

at::Tensor newton_schulz_reference(const at::Tensor& x_Brc, const NewtonSchulzOptions& options) {
  auto x = x_Brc / at::linalg_vector_norm(x_Brc, 2, at::IntArrayRef{1, 2}, true, at::kDouble)
                       .clamp_min(1e-20)
                       .to(x_Brc.scalar_type());
  const bool is_tall = x.size(1) > x.size(2);
  x = is_tall ? x.transpose(1, 2) : x;
  for (const auto& [a, b, c] : newton_schulz_polynomials(options)) {
    const auto gram = at::bmm(x, x.transpose(1, 2));
    x = a * x + at::bmm(b * gram + c * at::bmm(gram, gram), x);
  }
  return is_tall ? x.transpose(1, 2) : x;
}

}  // namespace braid
