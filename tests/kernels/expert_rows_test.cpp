#include "kernels/expert_rows.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/experts.h"
#include "kernels/precision.h"
#include "tests/kernels/check_op.h"
#include "tests/support/compare.h"
#include "tests/support/devices.h"
#include "tests/support/kernels_on_host.h"
#include "tests/support/normal_tensor.h"
#include "tests/support/strict_device.h"

namespace braid {
namespace {

using testing::expect_bitwise_equal;
using testing::KernelsOnHost;
using testing::normal_tensor;
using testing::strict_device;

constexpr std::uint64_t kOrders[] = {0, 1, 2};  // of a kernel's threads

// T tokens with K distinct experts each, most of them with low numbers.
at::Tensor chosen(int64_t T, int64_t K, int64_t E) {
  const auto scores = normal_tensor("experts", {T, E}) - at::arange(E, at::kDouble) / E;
  return scores.argsort(int64_t{-1}, true).narrow(-1, 0, K);
}

void expect_equal_orders(const char* name, const ExpertOrder& got, const ExpertOrder& want) {
  EXPECT_EQ(got.bounds.on_host(), want.bounds.on_host()) << name;
  EXPECT_TRUE(got.row_TK.cpu().equal(want.row_TK)) << name;
}

TEST(SortedByExpert, KeepsTheTokensOfAnExpertInOrder) {
  const auto experts = at::tensor({2, 0, 0, 3, 2, 3}, at::kLong).view({3, 2});
  const ExpertOrder want{at::tensor({2, 0, 1, 4, 3, 5}, at::kLong),
                         ExpertBounds(at::tensor({0, 2, 2, 4, 6, 6}, at::kLong), 6)};
  expect_equal_orders("kernel", sorted_by_expert(experts, 5), want);
  expect_equal_orders("twin", sorted_by_expert_reference(experts, 5), want);
}

// More pairs than a block of a device orders, more experts than a warp has lanes, and one more than
// there is a kernel for.
TEST(SortedByExpert, IsTheSameOnEveryDevice) {
  struct Case {
    int64_t T, K, E;
  };
  for (const auto& [T, K, E] : {Case{0, 2, 4}, {1, 1, 1}, {5, 3, 7}, {400, 3, 40}, {30, 2, 1025}}) {
    const auto experts = chosen(T, K, E);
    const auto want = sorted_by_expert_reference(experts, E);
    for (const auto device : testing::devices()) {
      expect_equal_orders("order", sorted_by_expert(experts.to(device), E), want);
    }
    for (const auto order : kOrders) {
      const KernelsOnHost kernels(order);
      expect_equal_orders(
          "order by kernels/cuda", sorted_by_expert(experts.to(strict_device()), E), want);
      EXPECT_EQ(kernels.launches(), E > 1024 ? 0 : T == 0 ? 1 : 3);
    }
  }
}

TEST(SortedByExpert, RefusesExpertsThatAreNotThere) {
  for (const int64_t expert : {-1, 4}) {
    const auto experts = at::tensor({int64_t{1}, expert}, at::kLong).view({1, 2});
    for (const bool with_kernels : {false, true}) {
      const auto kernels = with_kernels ? std::make_unique<KernelsOnHost>() : nullptr;
      const auto message = testing::error_of(
          [&] { sorted_by_expert(experts.to(strict_device()), 4).bounds.on_host(); });
      EXPECT_TRUE(message.starts_with("[routed_experts] an expert of a token is not one of the 4"))
          << message;
    }
  }
}

// Rows of pieces, of broken pieces, and more than a block's threads have at once.
TEST(ExpertRows, GoToTheExpertsAndBackOnEveryDeviceAsInTheTwins) {
  struct Case {
    int64_t T, K, D;
  };
  for (const auto& [T, K, D] : {Case{0, 2, 8}, {1, 1, 1}, {7, 3, 5}, {9, 2, 24}, {2, 6, 2064}}) {
    const auto row_TK = sorted_by_expert(chosen(T, K, 8), 8).row_TK;
    for (const auto type : {at::kDouble, at::kFloat, at::kBFloat16}) {
      const auto x = normal_tensor("x", {T, D}, type);
      const auto weights = normal_tensor("weights", {T, K}, wide_type(type));
      const auto to_experts = permute_to_experts_reference(x, weights, row_TK);
      const auto back = permute_to_experts_backward_reference(to_experts, row_TK, K);
      const auto sums = combine_of_experts_reference(to_experts.rows_RD, row_TK, K);
      const auto dout = normal_tensor("dout", {T, D}, wide_type(type));
      const auto drows = combine_of_experts_backward_reference(dout, row_TK, K, type);
      const auto check = [&](const std::string& name, at::Device device) {
        const auto row = row_TK.to(device);
        const auto got = permute_to_experts(x.to(device), weights.to(device), row);
        expect_bitwise_equal(name + ", rows", got.rows_RD, to_experts.rows_RD);
        expect_bitwise_equal(name + ", weights of rows", got.weight_R, to_experts.weight_R);
        const auto of_tokens = permute_to_experts_backward(got, row, K);
        // The twin's sum has an order of its own.
        const testing::Tolerance tolerance{.relative = type == at::kBFloat16 ? 1.0 / 256 : 1e-6};
        testing::expect_close(name + ", tokens", of_tokens.tokens_TD, back.tokens_TD, tolerance);
        expect_bitwise_equal(name + ", weights", of_tokens.weights_TK, weights);
        const auto out = combine_of_experts(got.rows_RD, row, K);
        EXPECT_EQ(out.scalar_type(), wide_type(type));
        testing::expect_close(name + ", sums", out, sums, {.relative = 1e-6});
        expect_bitwise_equal(name + ", gradients of rows",
                             combine_of_experts_backward(dout.to(device), row, K, type),
                             drows);
      };
      for (const auto device : testing::devices()) {
        check(text(type, " on ", device), device);
      }
      for (const auto order : kOrders) {
        const KernelsOnHost kernels(order);
        check(text(type, " by kernels/cuda"), strict_device());
        EXPECT_EQ(kernels.launches(), type == at::kDouble || T == 0 ? 0 : 4);
      }
    }
  }
}

// Sums of some rows differ with their order; the order of k is the CPU's.
TEST(ExpertRows, OfATokenAreAddedInTheOrderOfItsChoices) {
  const int64_t T = 40, K = 8, D = 16;
  const auto row_TK = sorted_by_expert(chosen(T, K, 20), 20).row_TK;
  const auto rows = normal_tensor("rows", {T * K, D}, at::kFloat);
  const auto want = combine_of_experts(rows, row_TK, K);
  const KernelsOnHost kernels;
  expect_bitwise_equal(
      "sums", combine_of_experts(rows.to(strict_device()), row_TK.to(strict_device()), K), want);
}

TEST(RoutedExperts, InFloat32WaitOnceForTheirNumbersOfRowsAndInBfloat16NotAtAll) {
  struct Case {
    at::ScalarType type;
    int64_t waits;
    int launches;
  };
  // Three of the order, rows there and back, their gradients, and SwiGLU's two; in bfloat16
  // products too: three stacks, their inputs' gradients and their own.
  for (const auto& c : {Case{at::kFloat, 1, 9}, {at::kBFloat16, 0, 9 + 3 * 3}}) {
    const auto on_device = [](const char* name, at::IntArrayRef shape, at::ScalarType type) {
      return normal_tensor(name, shape, type).to(strict_device()).requires_grad_(true);
    };
    const auto x = on_device("x", {3, 8}, c.type),
               weights = on_device("weights", {3, 2}, at::kFloat),
               w1 = on_device("w1", {4, 16, 8}, at::kFloat),
               w2 = on_device("w2", {4, 8, 16}, at::kFloat),
               w3 = on_device("w3", {4, 16, 8}, at::kFloat);
    const auto experts = chosen(3, 2, 4).to(strict_device());
    const KernelsOnHost kernels;
    const auto use = testing::strict_device_use(
        [&] { routed_experts(x, experts, weights, w1, w2, w3, 4).sum().backward(); });
    EXPECT_EQ(use.number_of_waits(), c.waits) << c.type;
    EXPECT_EQ(kernels.launches(), c.launches) << c.type;
  }
}

}  // namespace
}  // namespace braid
