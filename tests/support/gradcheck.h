#pragma once
#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

namespace braid::testing {

struct GradcheckOptions {
  double step = 1e-6;  // of the central difference
  double absolute = 1e-6;
  double relative = 1e-5;      // of the largest numeric gradient of that input
  int64_t max_elements = 200;  // per input; a fixed stride picks them when there are more
};

/// Compares the analytic gradient of a random projection of f's outputs with central differences.
/// Inputs must be float64; each is made to require a gradient. Fails the running test with the
/// input, the element and both values.
void expect_gradients_match(
    const std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)>& f,
    std::vector<at::Tensor> inputs,
    GradcheckOptions options = {});

}  // namespace braid::testing
