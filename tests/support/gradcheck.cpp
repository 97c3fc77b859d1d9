#include "tests/support/gradcheck.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "core/random.h"

namespace braid::testing {
namespace {

// The projection must not be all ones: softmax-like outputs sum to a constant and would hide
// errors.
at::Tensor projected(const std::vector<at::Tensor>& outputs) {
  at::Tensor sum = at::zeros({}, at::kDouble);
  uint64_t stream = 0;
  for (const auto& output : outputs) {
    auto weights = at::empty({output.numel()}, at::kDouble);
    const uint64_t key = random_key(stream++, "gradcheck");
    for (int64_t i = 0; i < weights.numel(); ++i) {
      weights.data_ptr<double>()[i] = random_normal(key, i);
    }
    sum = sum + (output.flatten() * weights).sum();
  }
  return sum;
}

}  // namespace

void expect_gradients_match(
    const std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)>& f,
    std::vector<at::Tensor> inputs,
    GradcheckOptions options) {
  for (auto& input : inputs) {
    ASSERT_EQ(input.scalar_type(), at::kDouble) << "gradcheck needs float64";
    input = input.detach().clone(at::MemoryFormat::Contiguous).requires_grad_(true);
  }
  projected(f(inputs)).backward();
  at::NoGradGuard no_grad;
  for (std::size_t which = 0; which < inputs.size(); ++which) {
    auto& input = inputs[which];
    const auto gradient =
        input.grad().defined() ? input.grad().contiguous() : at::zeros_like(input);
    double* values = input.data_ptr<double>();
    const int64_t stride = std::max<int64_t>(1, input.numel() / options.max_elements);
    std::vector<std::pair<int64_t, double>> numeric;
    double largest = 0;
    for (int64_t i = 0; i < input.numel(); i += stride) {
      const double original = values[i];
      values[i] = original + options.step;
      const double above = projected(f(inputs)).item<double>();
      values[i] = original - options.step;
      const double below = projected(f(inputs)).item<double>();
      values[i] = original;
      numeric.emplace_back(i, (above - below) / (2 * options.step));
      largest = std::max(largest, std::abs(numeric.back().second));
    }
    for (const auto& [i, value] : numeric) {
      const double analytic = gradient.data_ptr<double>()[i];
      ASSERT_LE(std::abs(analytic - value), options.absolute + options.relative * largest)
          << "input " << which << " " << input.sizes() << ", element " << i << ": analytic "
          << analytic << ", numeric " << value;
    }
  }
}

}  // namespace braid::testing
