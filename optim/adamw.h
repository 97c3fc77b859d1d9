#pragma once
#include <ATen/core/Tensor.h>

#include "optim/config.h"

namespace braid {

struct AdamWStep {
  int64_t step = 1;  ///< counts from 1
  double learning_rate = 0;
  double weight_decay = 0;
  double gradient_scale = 1;  ///< the factor of clipping
};

/// One AdamW step in place (Loshchilov & Hutter, arXiv:1711.05101), in one pass over memory; all
/// tensors contiguous, of one shape and dtype, float32 or float64. With g = gradient_scale * grad:
///   m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
///   w <- w (1 - learning_rate * weight_decay)
///        - learning_rate * m / (1 - beta1^step) / (sqrt(v / (1 - beta2^step)) + epsilon)
/// An element whose gradient was always zero only decays.
void adamw_update(const at::Tensor& value,
                  const at::Tensor& grad,
                  const at::Tensor& exp_avg,
                  const at::Tensor& exp_avg_sq,
                  const AdamWStep& step,
                  const AdamWConfig& config);
/// The same in plain LibTorch.
void adamw_update_reference(at::Tensor value,
                            const at::Tensor& grad,
                            at::Tensor exp_avg,
                            at::Tensor exp_avg_sq,
                            const AdamWStep& step,
                            const AdamWConfig& config);

}  // namespace braid
