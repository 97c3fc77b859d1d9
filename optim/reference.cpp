// The optimizers' mathematics in plain LibTorch.
#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "optim/adamw.h"
#include "optim/muon.h"

namespace braid {

void adamw_update_reference(at::Tensor value,
                            const at::Tensor& grad,
                            at::Tensor exp_avg,
                            at::Tensor exp_avg_sq,
                            const AdamWStep& step,
                            const AdamWConfig& config) {
  const at::NoGradGuard no_grad;
  const auto g = grad * step.gradient_scale;
  exp_avg.mul_(config.beta1).add_(g, 1 - config.beta1);
  exp_avg_sq.mul_(config.beta2).addcmul_(g, g, 1 - config.beta2);
  const auto count = static_cast<double>(step.step);
  const double correction1 = 1 - std::pow(config.beta1, count);
  const double correction2 = 1 - std::pow(config.beta2, count);
  const auto denominator = exp_avg_sq.sqrt().div_(std::sqrt(correction2)).add_(config.epsilon);
  value.mul_(1 - step.learning_rate * step.weight_decay)
      .addcdiv_(exp_avg, denominator, -step.learning_rate / correction1);
}

at::Tensor newton_schulz_reference(const at::Tensor& x_Brc, const MuonConfig& config) {
  auto x = x_Brc / at::linalg_vector_norm(x_Brc, 2, at::IntArrayRef{1, 2}, true, at::kDouble)
                       .clamp_min(1e-20)
                       .to(x_Brc.scalar_type());
  const bool is_tall = x.size(1) > x.size(2);
  x = is_tall ? x.transpose(1, 2) : x;
  for (int64_t i = 0; i < config.newton_schulz_steps + config.newton_schulz_final_steps; ++i) {
    const auto [a, b, c] = newton_schulz_polynomial(i, config);
    const auto gram = at::bmm(x, x.transpose(1, 2));
    x = a * x + at::bmm(b * gram + c * at::bmm(gram, gram), x);
  }
  return is_tall ? x.transpose(1, 2) : x;
}

void muon_step_reference(const MuonStack& stack, double gradient_scale, const MuonConfig& config) {
  const at::NoGradGuard no_grad;
  const auto g = stack.gradient_Brc * gradient_scale;
  at::Tensor value = stack.value_Brc, momentum = stack.momentum_Brc;
  momentum.mul_(config.momentum).add_(g);
  const auto o = newton_schulz_reference(g + config.momentum * momentum, config);
  const auto longest = static_cast<double>(std::max(value.size(1), value.size(2)));
  value.mul_(1 - stack.learning_rate * stack.weight_decay)
      .sub_(o, stack.learning_rate * config.update_rms * std::sqrt(longest));
}

}  // namespace braid
