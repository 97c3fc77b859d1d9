#pragma once
#include <array>
#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/error.h"

namespace braid {

/// The N sizes of a tensor, for structured bindings: `const auto [B, S, D] = sizes<3>(x_BSD);`.
/// Throws Error when the tensor has another number of dimensions.
template <std::size_t N>
std::array<int64_t, N> sizes(const at::Tensor& tensor) {
  require(tensor.dim() == static_cast<int64_t>(N),
          "[sizes] expected ",
          N,
          " dimensions, got shape ",
          tensor.sizes());
  std::array<int64_t, N> result;
  for (std::size_t i = 0; i < N; ++i) {
    result[i] = tensor.size(static_cast<int64_t>(i));
  }
  return result;
}

/// How many blocks hold `size` elements, the last perhaps partly.
inline int64_t blocks(int64_t size, int64_t block) {
  return (size + block - 1) / block;
}

}  // namespace braid
