#include <ATen/ATen.h>

#include "kernels/gemm.h"

namespace braid {

void multiply_reference(const at::Tensor& a, const at::Tensor& b, at::Tensor& c, bool accumulate) {
  const bool bf16 = a.scalar_type() == at::kBFloat16 || b.scalar_type() == at::kBFloat16;
  at::Tensor product;
  if (bf16 && c.scalar_type() == at::kBFloat16 && !accumulate) {
    product = at::mm(a.to(at::kBFloat16), b.to(at::kBFloat16));
  } else if (bf16 && a.is_cuda()) {
    product = at::mm(a.to(at::kBFloat16), b.to(at::kBFloat16), at::kFloat);  // CUDA alone has it
  } else {
    // Sums are wide: factors are rounded, then widened.
    const auto factor = [&](const at::Tensor& t) {
      return bf16 ? t.to(at::kBFloat16).to(at::kFloat) : t;
    };
    product = at::mm(factor(a), factor(b));
  }
  if (accumulate) {
    c.copy_(c.to(product.scalar_type()) + product);
  } else {
    c.copy_(product);
  }
}

}  // namespace braid
