#include "model/targets.h"

#include <ATen/ATen.h>

#include "core/ignored_target.h"

namespace braid {

int64_t counted_targets(const at::Tensor& targets_BS) {
  return (targets_BS != kIgnoredTarget).sum().item<int64_t>();
}

}  // namespace braid
