#include "optim/muon.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/sizes.h"

namespace braid {
namespace {

struct Coefficients {
  double a, b, c;
};
constexpr Coefficients kLifting = {3.4445, -4.7750, 2.0315};
constexpr Coefficients kSettling = {2, -1.5, 0.5};

// float64, so that no float32 matrix overflows or vanishes in its squares.
at::Tensor frobenius_norm_B11(const at::Tensor& x_Brc) {
  return at::linalg_vector_norm(x_Brc, 2, at::IntArrayRef{1, 2}, true, at::kDouble);
}

}  // namespace

at::Tensor newton_schulz(const at::Tensor& x_Brc, const MuonConfig& config) {
  const auto [B, rows, cols] = sizes<3>(x_Brc);
  require(x_Brc.scalar_type() == at::kFloat || x_Brc.scalar_type() == at::kDouble,
          "[newton_schulz] expected float32 or float64, got ",
          x_Brc.scalar_type());
  auto x = x_Brc / frobenius_norm_B11(x_Brc).clamp_min(1e-20).to(x_Brc.scalar_type());
  const bool is_tall = rows > cols;
  if (is_tall) {
    x = x.transpose(1, 2).contiguous();
  }
  const int64_t n = std::min(rows, cols);
  auto next = at::empty_like(x);
  auto gram_Bnn = at::empty({B, n, n}, x.options());
  auto polynomial_Bnn = at::empty_like(gram_Bnn);
  const int64_t steps = config.newton_schulz_steps + config.newton_schulz_final_steps;
  for (int64_t step = 0; step < steps; ++step) {
    const auto& [a, b, c] = step < config.newton_schulz_steps ? kLifting : kSettling;
    at::bmm_out(gram_Bnn, x, x.transpose(1, 2));
    at::baddbmm_out(polynomial_Bnn, gram_Bnn, gram_Bnn, gram_Bnn, b, c);
    at::baddbmm_out(next, x, polynomial_Bnn, x, a, 1);
    std::swap(x, next);
  }
  return is_tall ? x.transpose(1, 2) : x;
}

at::Tensor muon_update(const at::Tensor& grad_Brc,
                       at::Tensor momentum_Brc,
                       const MuonConfig& config) {
  const auto [B, rows, cols] = sizes<3>(grad_Brc);
  momentum_Brc.mul_(config.momentum).add_(grad_Brc);
  const auto direction_Brc = at::add(grad_Brc, momentum_Brc, config.momentum);
  const double scale = config.update_rms * std::sqrt(static_cast<double>(std::max(rows, cols)));
  return newton_schulz(direction_Brc, config).mul_(scale);
}

}  // namespace braid
