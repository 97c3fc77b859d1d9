#pragma once
// The orthogonalization of Muon's updates. Letters: B independent matrices of r x c; n and m are
// the shorter and the longer side.
#include <array>
#include <vector>

#include <ATen/core/Tensor.h>

namespace braid {

struct NewtonSchulzOptions {
  int64_t steps = 8;        ///< iterations that lift small singular values
  int64_t final_steps = 2;  ///< iterations that settle singular values at 1
  bool bfloat16_products = false;
};

/// The nearest (semi-)orthogonal matrix of each of the B matrices: U V^T of X = U S V^T, up to
/// singular values in [1, 1.0006] for the default steps; zero for a zero matrix. The iteration:
///   X <- X / max(||X||_F, 1e-20), transposed while r > c
///   A = X X^T,  X <- a X + (b A + c A A) X
/// x_Brc: float32 or float64, which is also the precision of the products; the norm is float64.
/// With bfloat16_products, where the machine has_bf16_products(), factors of float32 matrices are
/// rounded to bfloat16 while they are packed: for the default steps a well-conditioned X's singular
/// values then end in [0.99, 1.01], and the result moves by less than 1 % of its norm. Each CPU
/// thread takes whole matrices; what remains all threads share. A matrix's bits depend on nothing
/// but itself. Source: DeepSeek-V4 report, Algorithm 1. No gradient.
at::Tensor newton_schulz(const at::Tensor& x_Brc, const NewtonSchulzOptions& options);
/// The same in plain LibTorch, which knows no bfloat16.
at::Tensor newton_schulz_reference(const at::Tensor& x_Brc, const NewtonSchulzOptions& options);

/// (a, b, c) of each iteration: (3.4445, -4.7750, 2.0315) for the first `steps`, (2, -1.5, 0.5) for
/// the `final_steps`.
std::vector<std::array<double, 3>> newton_schulz_polynomials(const NewtonSchulzOptions& options);

/// Operations of the matrix products of one iteration on one matrix.
struct NewtonSchulzFlops {
  /// 4 n^2 m + 2 n^3: X X^T and P X with 2 n^2 m each, A A with 2 n^3. What plans count, and what
  /// ownership is balanced by.
  double whole;
  /// 3 n^2 m + n^3: the symmetric products, X X^T and A A, counted half, as the CPU computes them.
  double least;
};
NewtonSchulzFlops newton_schulz_iteration_flops(int64_t rows, int64_t cols);

}  // namespace braid
