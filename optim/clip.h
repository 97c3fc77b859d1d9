#pragma once
#include <optional>

#include "kernels/update.h"  // squared_norm

namespace braid {

/// What gradients of global norm `norm` are multiplied by so that they are no longer than
/// `max_norm`; 1 where they are not, or where the norm is not finite: the caller skips the step.
double clip_factor(double norm, std::optional<double> max_norm);

}  // namespace braid
