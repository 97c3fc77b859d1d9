#pragma once
// The orthogonalization of Muon's updates. Letters: B independent matrices of r x c; n and m are
// the shorter and the longer side.
#include <array>
#include <vector>

#include <ATen/core/Tensor.h>

namespace braid {

/// Whether two iterations go at a time on X X^T, which is smaller than X.
enum class GramForm {
  kAuto,  ///< where that is faster: one side at least kGramAspect times as long as the other
  kAlways,
  kNever
};
inline constexpr double kGramAspect = 1.5;  // bench/muon_bench

struct NewtonSchulzOptions {
  int64_t steps = 8;        ///< iterations that lift small singular values
  int64_t final_steps = 2;  ///< iterations that settle singular values at 1
  bool bfloat16_products = false;
  GramForm gram = GramForm::kAuto;
};

/// The nearest (semi-)orthogonal matrix of each of the B matrices: U V^T of X = U S V^T, up to
/// singular values in [1, 1.0006] for the default steps; zero for a zero matrix. The iteration:
///   X <- X / max(||X||_F, 1e-20), transposed while r > c
///   A = X X^T,  X <- a X + (b A + c A A) X
/// In Gram form, two iterations at a time, which multiply X once: fewer operations unless X is
/// square, and the same result but for rounding (Gram Newton-Schulz; A is taken from X anew for
/// every two because its own rounding grows):
///   A = X X^T,  P = a I + b A + c A A,  A' = A P P,  P' = a' I + b' A' + c' A' A',  X <- P' P X
/// All but X are polynomials in A, so they are symmetric and commute.
/// x_Brc: float32 or float64, which is also the precision of the products; the norm is float64.
/// With bfloat16_products, where the machine has_bf16_products() or the device has a kernel for
/// them and sides are multiples of 8, factors of float32 matrices are rounded to bfloat16: for the
/// default steps a well-conditioned X's singular values then end in [0.99, 1.01], and the result
/// moves by less than 1 % of its norm; in Gram form by up to twice as much. Each CPU thread takes
/// whole matrices; what remains all threads share. A matrix's bits depend on nothing but itself.
/// Source: DeepSeek-V4 report, Algorithm 1. No gradient.
at::Tensor newton_schulz(const at::Tensor& x_Brc, const NewtonSchulzOptions& options);
/// The same in plain LibTorch, which knows no bfloat16.
at::Tensor newton_schulz_reference(const at::Tensor& x_Brc, const NewtonSchulzOptions& options);

/// X / max(||X||_F, 1e-20) of each matrix.
at::Tensor divided_by_norm(const at::Tensor& x_Brc);

/// Whether matrices of this shape take the Gram form.
bool in_gram_form(int64_t rows, int64_t cols, const NewtonSchulzOptions& options);

/// (a, b, c) of each iteration: (3.4445, -4.7750, 2.0315) for the first `steps`, (2, -1.5, 0.5) for
/// the `final_steps`.
std::vector<std::array<double, 3>> newton_schulz_polynomials(const NewtonSchulzOptions& options);

/// Operations of matrix products on one matrix.
struct NewtonSchulzFlops {
  double whole;  ///< what plans count
  double least;  ///< the symmetric products counted half, as the CPU computes them
};
/// One iteration, not in Gram form: X X^T and P X with 2 n^2 m each, A A with 2 n^3; so 4 n^2 m + 2
/// n^3, least 3 n^2 m + n^3. Ownership is balanced by it.
NewtonSchulzFlops newton_schulz_iteration_flops(int64_t rows, int64_t cols);
/// All iterations. In Gram form two take 4 n^2 m + 10 n^3, least 3 n^2 m + 5 n^3.
NewtonSchulzFlops newton_schulz_flops(int64_t rows,
                                      int64_t cols,
                                      const NewtonSchulzOptions& options);

}  // namespace braid
