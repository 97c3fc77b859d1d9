#include <ATen/ATen.h>

#include "kernels/cross_entropy.h"
#include "kernels/precision.h"
#include "kernels/weight.h"

namespace braid {

at::Tensor cross_entropy_sum_reference(const at::Tensor& hidden_TD,
                                       const at::Tensor& head_VD,
                                       const at::Tensor& targets_T) {
  const auto log_probabilities = project(widened(hidden_TD), head_VD).log_softmax(-1);
  return at::nll_loss(log_probabilities, targets_T, {}, at::Reduction::Sum, kIgnoredTarget);
}

}  // namespace braid
