#pragma once
#include <vector>

#include <ATen/core/Tensor.h>

#include "model/config.h"

namespace braid {

/// Rotary frequencies w_i, i = 0..P/2-1, in radians per token: theta^(-2i/P); with YaRN (factor >
/// 1) the low ones are divided by the factor, with a linear ramp between (arXiv:2309.00071
/// section 3.2; no attention factor, as in the release). Layers that compress use
/// compress_rope_theta and YaRN, all others rope_theta without.
std::vector<double> rope_frequencies(const ModelConfig& config, bool compressing);

/// cos and sin of position * w_i, shape positions.sizes() + [P/2], in `type`; the angle is taken in
/// double, so that long positions keep their precision.
struct Rotation {
  at::Tensor cos, sin;
};
Rotation rotation(const std::vector<double>& frequencies,
                  const at::Tensor& positions,
                  at::ScalarType type);

}  // namespace braid
