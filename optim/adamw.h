#pragma once
#include <vector>

#include "kernels/update.h"
#include "optim/config.h"

namespace braid {

/// update_by_adamw() with the configured numbers.
void adamw_update(const std::vector<AdamWTensors>& each, const AdamWConfig& config);
/// The same in plain LibTorch.
void adamw_update_reference(const std::vector<AdamWTensors>& each, const AdamWConfig& config);

}  // namespace braid
