#include "kernels/sinkhorn.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/autograd.h"
#include "kernels/run_kernel.h"
#include "kernels/sinkhorn_cpu.h"

namespace braid {
namespace {

template <class T>
SinkhornProblem<T> problem(const at::Tensor& logits, int64_t iterations, double eps) {
  const int64_t M = logits.size(-1);
  return {logits.numel() / (M * M), M, iterations, static_cast<T>(eps), data<T>(logits)};
}

class SinkhornFunction : public Function<SinkhornFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx,
                            const at::Tensor& given,
                            int64_t iterations,
                            double eps) {
    const auto logits = given.contiguous(), matrix = at::empty_like(logits);
    with_wide_type(logits.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      const auto p = problem<T>(logits, iterations, eps);
      BRAID_RUN(T, logits, sinkhorn_forward, p, data<T>(matrix));
    });
    ctx->save_for_backward({logits});
    ctx->saved_data["iterations"] = iterations;
    ctx->saved_data["eps"] = eps;
    return matrix;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto logits = ctx->get_saved_variables()[0];
    const auto dmatrix = gradients[0].contiguous(), dlogits = at::empty_like(logits);
    const int64_t iterations = ctx->saved_data["iterations"].toInt();
    const double eps = ctx->saved_data["eps"].toDouble();
    with_wide_type(logits.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      const auto p = problem<T>(logits, iterations, eps);
      BRAID_RUN(T, logits, sinkhorn_backward, p, data<T>(dmatrix), data<T>(dlogits));
    });
    return {dlogits, at::Tensor(), at::Tensor()};  // the numbers have no gradient
  }
};

}  // namespace

at::Tensor sinkhorn(const at::Tensor& logits_TMM, int64_t iterations, double eps) {
  const int64_t M = logits_TMM.size(-1);
  require(logits_TMM.dim() >= 2 && logits_TMM.size(-2) == M && iterations >= 1,
          "[sinkhorn] expected square matrices and at least one iteration, got ",
          logits_TMM.sizes(),
          " and ",
          iterations);
  const auto kernel = kernel_of(logits_TMM, BRAID_KERNEL(sinkhorn_forward));
  const bool fits = kernel == Kernel::kCuda
                        ? M == kCudaStreams && iterations <= kCudaSinkhornIterations
                        : M <= kMaxStreams;
  if (kernel == Kernel::kPlain || !fits) {
    return sinkhorn_reference(logits_TMM, iterations, eps);
  }
  return SinkhornFunction::apply(logits_TMM, iterations, eps);
}

}  // namespace braid
