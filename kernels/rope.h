#pragma once
#include <ATen/core/Tensor.h>

namespace braid {

/// Rotates the last P = 2 * cos.size(-1) channels of x in interleaved pairs (2i, 2i+1):
/// (a, b) -> (a cos - b sin, a sin + b cos); the channels before them pass unchanged.
/// x [..., H] any float type; cos, sin [..., P/2] wide, broadcast over the leading axes of x.
/// With `inverse` the rotation is undone (sin negated): used on attention outputs, whose values
/// carry the rotation of their keys. Source: arXiv:2104.09864, GPT-J pairing. Gradients: x.
at::Tensor rope(const at::Tensor& x,
                const at::Tensor& cos,
                const at::Tensor& sin,
                bool inverse = false);

/// The same in plain LibTorch.
at::Tensor rope_reference(const at::Tensor& x,
                          const at::Tensor& cos,
                          const at::Tensor& sin,
                          bool inverse = false);

}  // namespace braid
