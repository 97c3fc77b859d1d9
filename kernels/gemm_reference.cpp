#include <ATen/ATen.h>

#include "kernels/gemm.h"

namespace braid {

void multiply_reference(const at::Tensor& a, const at::Tensor& b, at::Tensor& c, bool accumulate) {
  const bool bf16 = a.scalar_type() == at::kBFloat16 || b.scalar_type() == at::kBFloat16;
  const auto narrow = [](const at::Tensor& t) { return t.to(at::kBFloat16); };
  // Straight into c where its type is that of the sums, or the one they are rounded to at once.
  if (!bf16 && a.scalar_type() == c.scalar_type() && b.scalar_type() == c.scalar_type()) {
    accumulate ? c.addmm_(a, b) : at::mm_out(c, a, b);
    return;
  }
  if (bf16 && c.scalar_type() == at::kBFloat16 && !accumulate) {
    at::mm_out(c, narrow(a), narrow(b));
    return;
  }
  at::Tensor product;
  if (bf16 && a.is_cuda()) {
    product = at::mm(narrow(a), narrow(b), at::kFloat);  // CUDA alone has it
  } else {
    // Sums are wide: factors are rounded, then widened.
    const auto factor = [&](const at::Tensor& t) { return bf16 ? narrow(t).to(at::kFloat) : t; };
    product = at::mm(factor(a), factor(b));
  }
  if (accumulate) {
    c.copy_(c.to(product.scalar_type()) + product);
  } else {
    c.copy_(product);
  }
}

}  // namespace braid
