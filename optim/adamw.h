#pragma once
#include <ATen/core/Tensor.h>

#include "kernels/update.h"
#include "optim/config.h"

namespace braid {

/// update_by_adamw() with the configured numbers.
void adamw_update(const at::Tensor& value,
                  const at::Tensor& grad,
                  const at::Tensor& exp_avg,
                  const at::Tensor& exp_avg_sq,
                  const AdamWStep& step,
                  const AdamWConfig& config);
/// The same in plain LibTorch.
void adamw_update_reference(const at::Tensor& value,
                            const at::Tensor& grad,
                            const at::Tensor& exp_avg,
                            const at::Tensor& exp_avg_sq,
                            const AdamWStep& step,
                            const AdamWConfig& config);

}  // namespace braid
