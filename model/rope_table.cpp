#include "model/rope_table.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <ATen/ATen.h>

namespace braid {

std::vector<double> rope_frequencies(const ModelConfig& config, bool compressing) {
  const int64_t P = config.qk_rope_head_dim;
  const double theta = compressing ? config.compress_rope_theta : config.rope_theta;
  std::vector<double> frequencies(P / 2);
  for (int64_t i = 0; i < P / 2; ++i) {
    frequencies[i] = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(P));
  }
  const auto& scaling = config.rope_scaling;
  if (!compressing || scaling.factor == 1) {
    return frequencies;
  }
  // The channel whose wavelength makes `rotations` turns within the original context.
  const auto channel = [&](double rotations) {
    return static_cast<double>(P) *
           std::log(static_cast<double>(scaling.original_max_position_embeddings) /
                    (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(theta));
  };
  const double low =
      std::clamp(std::floor(channel(scaling.beta_fast)), 0.0, static_cast<double>(P - 1));
  double high = std::clamp(std::ceil(channel(scaling.beta_slow)), 0.0, static_cast<double>(P - 1));
  high = high == low ? high + 0.001 : high;
  for (int64_t i = 0; i < P / 2; ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] = frequencies[i] / scaling.factor * ramp + frequencies[i] * (1 - ramp);
  }
  return frequencies;
}

Rotation rotation(const std::vector<double>& frequencies,
                  const at::Tensor& positions,
                  at::ScalarType type) {
  const auto w = at::tensor(frequencies, positions.options().dtype(at::kDouble));
  const auto angle = positions.to(at::kDouble).unsqueeze(-1) * w;
  return {angle.cos().to(type), angle.sin().to(type)};
}

}  // namespace braid
