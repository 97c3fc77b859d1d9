#include "kernels/sinkhorn.h"

#include <ATen/ATen.h>

#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/cpu/sinkhorn_loops.h"

namespace braid {
namespace {

constexpr int64_t kMaxStreams = 8;  // of the fused kernel

class SinkhornFunction : public Function<SinkhornFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx,
                            const at::Tensor& given,
                            int64_t iterations,
                            double eps) {
    const auto logits = given.contiguous();
    auto matrix = at::empty_like(logits);
    const int64_t M = logits.size(-1), size = M * M;
    with_wide_type(logits.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      parallel_rows(logits.numel() / size, 20 * iterations, [&](int64_t begin, int64_t end) {
        BRAID_CPU(sinkhorn_forward<T>)
        (logits.data_ptr<T>() + begin * size,
         matrix.data_ptr<T>() + begin * size,
         end - begin,
         M,
         iterations,
         static_cast<T>(eps));
      });
    });
    ctx->save_for_backward({logits});
    ctx->saved_data["iterations"] = iterations;
    ctx->saved_data["eps"] = eps;
    return matrix;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto logits = ctx->get_saved_variables()[0];
    const auto dmatrix = gradients[0].contiguous();
    const int64_t iterations = ctx->saved_data["iterations"].toInt();
    const double eps = ctx->saved_data["eps"].toDouble();
    auto dlogits = at::empty_like(logits);
    const int64_t M = logits.size(-1), size = M * M;
    with_wide_type(logits.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      parallel_rows(logits.numel() / size, 60 * iterations, [&](int64_t begin, int64_t end) {
        BRAID_CPU(sinkhorn_backward<T>)
        (logits.data_ptr<T>() + begin * size,
         dmatrix.data_ptr<T>() + begin * size,
         dlogits.data_ptr<T>() + begin * size,
         end - begin,
         M,
         iterations,
         static_cast<T>(eps));
      });
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
  if (M > kMaxStreams) {
    return sinkhorn_reference(logits_TMM, iterations, eps);
  }
  return SinkhornFunction::apply(logits_TMM, iterations, eps);
}

}  // namespace braid
