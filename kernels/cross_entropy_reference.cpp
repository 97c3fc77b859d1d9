#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "kernels/cross_entropy.h"
#include "kernels/precision.h"

namespace braid {
namespace {

at::Tensor losses(const at::Tensor& hidden_TD,
                  const at::Tensor& head_VD,
                  const at::Tensor& targets_T,
                  at::Reduction::Reduction reduction) {
  const auto log_probabilities = at::matmul(widened(hidden_TD), head_VD.t()).log_softmax(-1);
  return at::nll_loss(log_probabilities, targets_T, {}, reduction, kIgnoredTarget);
}

}  // namespace

at::Tensor cross_entropy_sum_reference(const at::Tensor& hidden_TD,
                                       const at::Tensor& head_VD,
                                       const at::Tensor& targets_T,
                                       const at::Tensor& weights_T) {
  if (!weights_T.defined()) {
    return losses(hidden_TD, head_VD, targets_T, at::Reduction::Sum);
  }
  const auto losses_T = losses(hidden_TD, head_VD, targets_T, at::Reduction::None);
  return (losses_T * weights_T.to(losses_T.scalar_type())).sum();
}

at::Tensor cross_entropy_each_reference(const at::Tensor& hidden_TD,
                                        const at::Tensor& head_VD,
                                        const at::Tensor& targets_T) {
  const at::NoGradGuard no_grad;
  return losses(hidden_TD, head_VD, targets_T, at::Reduction::None);
}

}  // namespace braid
