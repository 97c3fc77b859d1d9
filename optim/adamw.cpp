#include "optim/adamw.h"

#include <cmath>

#include <ATen/Parallel.h>

#include "core/error.h"
#include "kernels/autograd.h"
#include "kernels/cpu/update_loops.h"

namespace braid {

void adamw_update(const at::Tensor& value,
                  const at::Tensor& grad,
                  const at::Tensor& exp_avg,
                  const at::Tensor& exp_avg_sq,
                  const AdamWStep& step,
                  const AdamWConfig& config) {
  const auto type = value.scalar_type();
  for (const auto* tensor : {&value, &grad, &exp_avg, &exp_avg_sq}) {
    require(tensor->sizes() == value.sizes() && tensor->scalar_type() == type &&
                tensor->is_contiguous() && (type == at::kFloat || type == at::kDouble),
            "[adamw_update] expected contiguous tensors of one shape, all float32 or all float64; "
            "value is ",
            type,
            " ",
            value.sizes(),
            ", another ",
            tensor->scalar_type(),
            " ",
            tensor->sizes());
  }
  const auto count = static_cast<double>(step.step);
  with_wide_type(type, [&](auto zero) {
    using T = decltype(zero);
    const AdamWFactors<T> factors{
        static_cast<T>(config.beta1),
        static_cast<T>(1 - config.beta1),
        static_cast<T>(config.beta2),
        static_cast<T>(1 - config.beta2),
        static_cast<T>(config.epsilon),
        static_cast<T>(1 - step.learning_rate * step.weight_decay),
        static_cast<T>(step.learning_rate / (1 - std::pow(config.beta1, count))),
        static_cast<T>(std::sqrt(1 - std::pow(config.beta2, count))),
        static_cast<T>(step.gradient_scale)};
    at::parallel_for(0, value.numel(), 1 << 14, [&](int64_t begin, int64_t end) {
      BRAID_CPU(adamw_elements<T>)
      (value.data_ptr<T>() + begin,
       grad.const_data_ptr<T>() + begin,
       exp_avg.data_ptr<T>() + begin,
       exp_avg_sq.data_ptr<T>() + begin,
       end - begin,
       factors);
    });
  });
}

}  // namespace braid
