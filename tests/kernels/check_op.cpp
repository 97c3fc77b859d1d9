#include "tests/kernels/check_op.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/precision.h"
#include "tests/support/compare.h"
#include "tests/support/devices.h"
#include "tests/support/gradcheck.h"
#include "tests/support/kernels_on_host.h"
#include "tests/support/normal_tensor.h"
#include "tests/support/strict_device.h"

namespace braid::testing {
namespace {

struct Evaluation {
  at::Tensor value;
  std::vector<at::Tensor> gradients;
};

// The gradients are those of a random projection whose weights are exact in every type.
Evaluation evaluated(const Op& op, const std::vector<at::Tensor>& given) {
  std::vector<at::Tensor> inputs;
  for (const auto& input : given) {
    inputs.push_back(input.detach().requires_grad_(true));
  }
  const auto value = op(inputs);
  const auto weights =
      normal_tensor("projection", value.sizes(), at::kBFloat16).to(at::kDouble).to(value.device());
  if (value.requires_grad()) {  // not when there is no element
    (value.to(at::kDouble) * weights).sum().backward();
  }
  Evaluation result{value.detach(), {}};
  for (const auto& input : inputs) {
    result.gradients.push_back(input.grad().defined() ? input.grad() : at::zeros_like(input));
  }
  return result;
}

void expect_close(const std::string& name,
                  const Evaluation& got,
                  const Evaluation& want,
                  double tolerance) {
  testing::expect_close(name, got.value, want.value, {.relative = tolerance});
  for (std::size_t i = 0; i < want.gradients.size(); ++i) {
    testing::expect_close(text(name, ", gradient of input ", i),
                          got.gradients[i],
                          want.gradients[i],
                          {.relative = tolerance});
  }
}

void expect_bitwise_equal(const std::string& name, const Evaluation& got, const Evaluation& want) {
  testing::expect_bitwise_equal(name, got.value, want.value);
  for (std::size_t i = 0; i < want.gradients.size(); ++i) {
    testing::expect_bitwise_equal(
        text(name, ", gradient of input ", i), got.gradients[i], want.gradients[i]);
  }
}

void check_on_device(const std::string& place,
                     const OpCheck& check,
                     at::Device device,
                     const std::vector<at::Tensor>& cpu_inputs,
                     const Evaluation& want,
                     double tolerance) {
  std::vector<at::Tensor> inputs, gaps;
  for (const auto& input : cpu_inputs) {
    inputs.push_back(input.to(device));
    gaps.push_back(with_gaps(inputs.back()));
  }
  const auto got = evaluated(check.fused, inputs);
  EXPECT_EQ(got.value.device(), device) << place;
  expect_close(place, got, want, tolerance);
  expect_close(place + " (reference)", evaluated(check.reference, inputs), want, tolerance);
  expect_bitwise_equal(place + " again", evaluated(check.fused, inputs), got);
  expect_close(place + " with gaps", evaluated(check.fused, gaps), want, tolerance);
}

// A kernel that lacks a barrier gives other bits in another order of its threads.
void check_kernels_on_host(const std::string& place,
                           const OpCheck& check,
                           const std::vector<at::Tensor>& cpu_inputs,
                           const Evaluation& want,
                           double tolerance) {
  std::vector<at::Tensor> inputs, gaps;
  for (const auto& input : cpu_inputs) {
    inputs.push_back(input.to(strict_device()));
    gaps.push_back(with_gaps(inputs.back()));
  }
  Evaluation first;
  for (const std::uint64_t order : {0, 1, 2}) {
    const KernelsOnHost kernels(order);
    const auto got = evaluated(check.fused, inputs);
    if (kernels.launches() == 0) {
      return;  // the twin ran
    }
    if (order == 0) {
      first = got;
      expect_close(place, got, want, tolerance);
      expect_close(place + " with gaps", evaluated(check.fused, gaps), want, tolerance);
    } else {
      expect_bitwise_equal(text(place, ", order ", order), got, first);
    }
  }
  if (inputs[0].scalar_type() == at::kBFloat16) {  // whose products are others there
    const KernelsOnHost kernels(/*order=*/0, /*compute_capability=*/8);
    expect_close(place + " before Hopper", evaluated(check.fused, inputs), want, tolerance);
  }
}

}  // namespace

at::Tensor with_gaps(const at::Tensor& tensor) {
  return at::stack({tensor, at::full_like(tensor, 7)}, -1).select(-1, 0);
}

void check_op(const std::string& name, const OpCheck& check) {
  at::set_num_threads(1);  // at these sizes a second thread only waits, and tests share the machine
  const std::pair<at::ScalarType, double> types[] = {
      {at::kDouble, check.float64}, {at::kFloat, check.float32}, {at::kBFloat16, check.bfloat16}};
  for (const auto& [type, tolerance] : types) {
    std::vector<at::Tensor> inputs, exact;
    for (const auto& input : check.inputs) {
      inputs.push_back(input.value.to(input.is_wide ? wide_type(type) : type));
      exact.push_back(inputs.back().to(at::kDouble));
    }
    const auto want = evaluated(check.reference, exact);
    for (const auto& device : devices()) {
      check_on_device(
          text(name, " in ", type, " on ", device), check, device, inputs, want, tolerance);
    }
    if (check.on_host) {
      check_kernels_on_host(
          text(name, " in ", type, " by kernels/cuda"), check, inputs, want, tolerance);
    }
  }
  if (check.gradcheck) {
    std::vector<at::Tensor> inputs;
    for (const auto& input : check.inputs) {
      inputs.push_back(input.value);
    }
    const GradcheckOptions options{.max_elements = 20};
    for (const auto& op : {check.fused, check.reference}) {
      expect_gradients_match(
          [&](const std::vector<at::Tensor>& x) { return std::vector{op(x)}; }, inputs, options);
    }
  }
}

void check_threads(const std::string& name, const Op& op, const std::vector<OpInput>& inputs) {
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    std::vector<at::Tensor> given;
    for (const auto& input : inputs) {
      given.push_back(input.value.to(input.is_wide ? wide_type(type) : type));
    }
    std::vector<Evaluation> results;
    for (const int threads : {1, 2, 3}) {
      at::set_num_threads(threads);
      results.push_back(evaluated(op, given));
    }
    at::set_num_threads(1);
    expect_bitwise_equal(text(name, " in ", type, ", two threads"), results[1], results[0]);
    expect_bitwise_equal(text(name, " in ", type, ", three threads"), results[2], results[0]);
  }
}

std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "no braid::Error was thrown";
  return "";
}

}  // namespace braid::testing
