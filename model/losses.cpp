#include "model/losses.h"

#include <ATen/ATen.h>

#include "kernels/precision.h"

namespace braid {

at::Tensor cross_entropy_sum(const at::Tensor& logits_BSV, const at::Tensor& targets_BS) {
  const auto log_probabilities = widened(logits_BSV).flatten(0, 1).log_softmax(-1);
  return at::nll_loss(
      log_probabilities, targets_BS.flatten(), {}, at::Reduction::Sum, kIgnoredTarget);
}

int64_t counted_targets(const at::Tensor& targets_BS) {
  return (targets_BS != kIgnoredTarget).sum().item<int64_t>();
}

}  // namespace braid
