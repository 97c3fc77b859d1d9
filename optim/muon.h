#pragma once
// Muon as DeepSeek-V4 uses it (report, Algorithm 1). Letters: B independent matrices of r x c.
#include <array>
#include <vector>

#include <ATen/core/Tensor.h>

#include "optim/config.h"

namespace braid {

/// Matrices of one shape that learn alike; contiguous, float32 or float64, all of one type.
struct MuonStack {
  at::Tensor value_Brc, gradient_Brc, momentum_Brc;
  double learning_rate = 0, weight_decay = 0;
};

/// One step in place, with G = gradient_scale * gradient:
///   M <- mu M + G (a sum, not a mean),  O = newton_schulz(mu M + G)
///   W <- W (1 - learning_rate * weight_decay)
///        - learning_rate * update_rms * sqrt(max(r, c)) * O
/// For full rank the RMS of an update is learning_rate * update_rms. Memory is read and written
/// once. Each thread takes whole matrices; what is left over all threads share. A matrix's bits
/// depend on nothing but itself.
void muon_step(const std::vector<MuonStack>& stacks,
               double gradient_scale,
               const MuonConfig& config);
/// The same of one stack, in plain LibTorch.
void muon_step_reference(const MuonStack& stack, double gradient_scale, const MuonConfig& config);

/// The nearest (semi-)orthogonal matrix of each of the B matrices: U V^T of X = U S V^T, up to
/// singular values in [1, 1.0006] for the default steps; zero for a zero matrix. The iteration:
///   X <- X / max(||X||_F, 1e-20), transposed while r > c
///   A = X X^T,  X <- a X + (b A + c A A) X
/// x_Brc: float32 or float64, which is also the precision of the products; the norm is float64.
/// With config.bfloat16_products, where the machine has_bf16_products(), factors of float32
/// matrices are rounded to bfloat16 while they are packed: for the default steps a well-conditioned
/// X's singular values then end in [0.99, 1.01], and the result moves by less than 1 % of its norm.
/// The reference knows no bfloat16.
at::Tensor newton_schulz(const at::Tensor& x_Brc, const MuonConfig& config);
at::Tensor newton_schulz_reference(const at::Tensor& x_Brc, const MuonConfig& config);

/// (a, b, c) of an iteration: (3.4445, -4.7750, 2.0315) for the first newton_schulz_steps,
/// (2, -1.5, 0.5) for the newton_schulz_final_steps.
std::array<double, 3> newton_schulz_polynomial(int64_t iteration, const MuonConfig& config);

/// Operations of the products of one matrix's iteration, the symmetric ones counted half:
/// X X^T n^2 m, A A n^3, P X 2 n^2 m, for short side n and long side m.
double newton_schulz_least_flops(int64_t rows, int64_t cols);

}  // namespace braid
