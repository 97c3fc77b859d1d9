#pragma once
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

namespace braid {

/// Global L2 norm over all gradients, summed in double in the order given. Undefined tensors count
/// as zeros. NaN or infinite exactly when a gradient is (a float32 gradient cannot overflow the
/// sum).
double gradient_norm(const std::vector<at::Tensor>& gradients);

/// Scales gradients of global norm `norm` in place to `max_norm` when they are longer. A non-finite
/// norm leaves them as they are: the caller skips the step.
void clip_gradients(const std::vector<at::Tensor>& gradients,
                    double norm,
                    std::optional<double> max_norm);

}  // namespace braid
