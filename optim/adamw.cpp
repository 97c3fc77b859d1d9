#include "optim/adamw.h"

#include <cmath>

#include <ATen/ATen.h>

namespace braid {

void adamw_update(at::Tensor value,
                  const at::Tensor& grad,
                  at::Tensor exp_avg,
                  at::Tensor exp_avg_sq,
                  int64_t step,
                  double learning_rate,
                  double weight_decay,
                  const AdamWConfig& config) {
  const at::NoGradGuard no_grad;
  exp_avg.mul_(config.beta1).add_(grad, 1 - config.beta1);
  exp_avg_sq.mul_(config.beta2).addcmul_(grad, grad, 1 - config.beta2);
  const double correction1 = 1 - std::pow(config.beta1, static_cast<double>(step));
  const double correction2 = 1 - std::pow(config.beta2, static_cast<double>(step));
  const auto denominator = exp_avg_sq.sqrt().div_(std::sqrt(correction2)).add_(config.epsilon);
  value.mul_(1 - learning_rate * weight_decay)
      .addcdiv_(exp_avg, denominator, -learning_rate / correction1);
}

}  // namespace braid
