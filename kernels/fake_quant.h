#pragma once
// Quantization-aware training: values as the published formats would round them, gradients as if
// nothing had been rounded (straight-through). Report 5.2.1; docs/equations.md (55), (56).
#include <ATen/core/Tensor.h>
#include <c10/core/TensorOptions.h>

namespace braid {

enum class QuantFormat {
  kOff,
  kFp8,  ///< weights: E4M3, a scale for 128 x 128
  kFp4,  ///< E2M1, a scale for 32 values of a row
};

/// w [out, in], or a stack [E, out, in] of matrices rounded one by one: what decode() of
/// encode_fp8() or encode_fp4() with E8M0 scales gives, in w's type. kOff: w itself.
/// Throws Error as those do: FP4 needs inputs in groups of 32, and on the CPU all values are
/// finite.
at::Tensor fake_quantized(const at::Tensor& w, QuantFormat format);
/// The same in plain LibTorch.
at::Tensor fake_quantized_reference(const at::Tensor& w, QuantFormat format);

/// x [..., H] in groups of 32 channels as FP4, in x's type; infinities and NaN stay, so that a step
/// that went wrong shows.
at::Tensor fake_fp4_activations(const at::Tensor& x);
at::Tensor fake_fp4_activations_reference(const at::Tensor& x);

/// The normalized Walsh-Hadamard matrix [n, n] of a power of two: symmetric, its own inverse.
/// Rotating by it spreads outliers over all channels before they are rounded. `options`: its type
/// and device.
at::Tensor hadamard_matrix(int64_t n, const at::TensorOptions& options);

}  // namespace braid
