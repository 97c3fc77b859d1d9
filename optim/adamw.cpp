#include "optim/adamw.h"

namespace braid {
namespace {

AdamWMoments moments_of(const AdamWConfig& config) {
  return {config.beta1, config.beta2, config.epsilon};
}

}  // namespace

void adamw_update(const at::Tensor& value,
                  const at::Tensor& grad,
                  const at::Tensor& exp_avg,
                  const at::Tensor& exp_avg_sq,
                  const AdamWStep& step,
                  const AdamWConfig& config) {
  update_by_adamw(value, grad, exp_avg, exp_avg_sq, step, moments_of(config));
}

void adamw_update_reference(const at::Tensor& value,
                            const at::Tensor& grad,
                            const at::Tensor& exp_avg,
                            const at::Tensor& exp_avg_sq,
                            const AdamWStep& step,
                            const AdamWConfig& config) {
  update_by_adamw_reference(value, grad, exp_avg, exp_avg_sq, step, moments_of(config));
}

}  // namespace braid
