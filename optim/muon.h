#pragma once
// Muon as DeepSeek-V4 uses it (report, Algorithm 1). Letters: B independent matrices of r x c.

#include <ATen/core/Tensor.h>

#include "optim/config.h"

namespace braid {

/// The nearest (semi-)orthogonal matrix of each of the B matrices: U V^T of X = U S V^T, up to
/// singular values in [1, 1.0006] for the default steps; zero for a zero matrix. The iteration:
///   X <- X / max(||X||_F, 1e-20), transposed while r > c
///   A = X X^T,  X <- a X + (b A + c A A) X
/// with (a, b, c) = (3.4445, -4.7750, 2.0315) for newton_schulz_steps,
///      (a, b, c) = (2, -1.5, 0.5) for newton_schulz_final_steps.
/// x_Brc: float32 or float64, which is also the precision of the products; the norm is float64.
/// The bits of a matrix do not depend on B if each matrix fills whole 64-byte lines (alignment
/// changes the order of BLAS's sums).
at::Tensor newton_schulz(const at::Tensor& x_Brc, const MuonConfig& config);

/// M <- mu M + G in place (a sum, not a mean), then the Nesterov update
/// update_rms * sqrt(max(r, c)) * newton_schulz(mu M + G), whose RMS is update_rms for full rank.
/// The caller applies W <- W (1 - learning_rate * weight_decay) - learning_rate * update.
at::Tensor muon_update(const at::Tensor& grad_Brc,
                       at::Tensor momentum_Brc,
                       const MuonConfig& config);

}  // namespace braid
