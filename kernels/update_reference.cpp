#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "kernels/update.h"

namespace braid {

at::Tensor sum_of_squares(const at::Tensor& x) {
  return x.detach().to(at::kDouble).square().sum();
}

double squared_norm_reference(const at::Tensor& x) {
  return sum_of_squares(x).item<double>();
}

void update_by_adamw_reference(const std::vector<AdamWTensors>& each, const AdamWMoments& moments) {
  const at::NoGradGuard no_grad;
  const auto& [beta1, beta2, epsilon] = moments;
  for (auto [value, grad, exp_avg, exp_avg_sq, step] : each) {
    const auto g = grad * step.gradient_scale;
    exp_avg.mul_(beta1).add_(g, 1 - beta1);
    exp_avg_sq.mul_(beta2).addcmul_(g, g, 1 - beta2);
    const auto count = static_cast<double>(step.step);
    const double correction1 = 1 - std::pow(beta1, count), correction2 = 1 - std::pow(beta2, count);
    const auto denominator = exp_avg_sq.sqrt().div_(std::sqrt(correction2)).add_(epsilon);
    value.mul_(1 - step.learning_rate * step.weight_decay)
        .addcdiv_(exp_avg, denominator, -step.learning_rate / correction1);
  }
}

void update_by_muon_reference(const MuonStack& stack, const MuonUpdate& update) {
  const at::NoGradGuard no_grad;
  const auto g = stack.gradient_Brc * update.gradient_scale;
  at::Tensor value = stack.value_Brc, momentum = stack.momentum_Brc;
  momentum.mul_(update.momentum).add_(g);
  const auto o = newton_schulz_reference(g + update.momentum * momentum, update.newton_schulz);
  const auto longest = static_cast<double>(std::max(value.size(1), value.size(2)));
  value.mul_(1 - stack.learning_rate * stack.weight_decay)
      .sub_(o, stack.learning_rate * update.update_rms * std::sqrt(longest));
}

}  // namespace braid
