#pragma once
#include <ATen/core/Tensor.h>

#include "optim/config.h"

namespace braid {

/// One AdamW step in place (Loshchilov & Hutter, arXiv:1711.05101), all tensors of one shape and
/// dtype:
///   m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
///   w <- w (1 - learning_rate * weight_decay)
///        - learning_rate * m / (1 - beta1^step) / (sqrt(v / (1 - beta2^step)) + epsilon)
/// `step` counts from 1. An element whose gradient was always zero only decays.
void adamw_update(at::Tensor value,
                  const at::Tensor& grad,
                  at::Tensor exp_avg,
                  at::Tensor exp_avg_sq,
                  int64_t step,
                  double learning_rate,
                  double weight_decay,
                  const AdamWConfig& config);

}  // namespace braid
