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

double clip_gradients(const std::vector<at::Tensor>& gradients, std::optional<double> max_norm) {
  const double norm = gradient_norm(gradients);
  if (max_norm && std::isfinite(norm) && norm > *max_norm) {
    const at::NoGradGuard no_grad;
    for (at::Tensor gradient : gradients) {
      if (gradient.defined()) {
        gradient.mul_(*max_norm / norm);
      }
    }
  }
  return norm;
}

}  // namespace braid
