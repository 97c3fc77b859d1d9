#pragma once
#include <string>

#include <ATen/ATen.h>

#include "core/random.h"

namespace braid::testing {

/// Standard normal values that depend on `name` only.
inline at::Tensor normal_tensor(const std::string& name,
                                at::IntArrayRef shape,
                                at::ScalarType type = at::kDouble) {
  const auto result = at::empty(shape, at::kDouble);
  const uint64_t key = random_key(0, name);
  for (int64_t i = 0; i < result.numel(); ++i) {
    result.data_ptr<double>()[i] = random_normal(key, i);
  }
  return result.to(type);
}

}  // namespace braid::testing
