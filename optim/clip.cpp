#include "optim/clip.h"

#include <cmath>

#include <ATen/ATen.h>

namespace braid {

double gradient_norm(const std::vector<at::Tensor>& gradients) {
  double sum_of_squares = 0;
  for (const auto& gradient : gradients) {
    if (gradient.defined()) {
      const auto norm =
          at::linalg_vector_norm(gradient.detach(), 2, std::nullopt, false, at::kDouble);
      sum_of_squares += std::pow(norm.item<double>(), 2);
    }
  }
  return std::sqrt(sum_of_squares);
}

void clip_gradients(const std::vector<at::Tensor>& gradients,
                    double norm,
                    std::optional<double> max_norm) {
  if (!max_norm || !std::isfinite(norm) || norm <= *max_norm) {
    return;
  }
  const at::NoGradGuard no_grad;
  for (at::Tensor gradient : gradients) {
    if (gradient.defined()) {
      gradient.mul_(*max_norm / norm);
    }
  }
}

}  // namespace braid
