#pragma once
#include <cstdint>

#include <ATen/core/Tensor.h>

namespace braid {

/// How many targets count: all but kIgnoredTarget.
int64_t counted_targets(const at::Tensor& targets_BS);

}  // namespace braid
