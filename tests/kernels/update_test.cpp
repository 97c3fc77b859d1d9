#include "kernels/update.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/support/devices.h"
#include "tests/support/normal_tensor.h"
#include "tests/support/strict_device.h"

namespace braid {
namespace {

TEST(SquaredNorm, SumsTensorsOfAnyShapeInDouble) {
  EXPECT_EQ(squared_norm(at::full({3, 3}, 2.0f)), 36);
  EXPECT_EQ(squared_norm(at::full({}, 4.0f)), 16);
  EXPECT_EQ(squared_norm(at::zeros({0})), 0);
  for (const auto type : {at::kFloat, at::kDouble}) {
    const auto x = testing::normal_tensor("x", {70'001}, type);
    const double want = x.to(at::kDouble).square().sum().item<double>();
    for (const auto device : testing::devices()) {
      EXPECT_NEAR(squared_norm(x.to(device)) / want, 1, 1e-13) << device;
    }
  }
  EXPECT_THROW(squared_norm(at::zeros({2, 3}).t()), Error);
  EXPECT_THROW(squared_norm(at::zeros({2}, at::kBFloat16)), Error);
}

TEST(SquaredNorm, OfSeveralTensorsIsThatOfEachForOneWait) {
  const auto a = testing::normal_tensor("a", {70'001}, at::kFloat),
             b = testing::normal_tensor("b", {3, 5}, at::kDouble);
  for (const auto device : testing::devices()) {
    std::vector<double> sums;
    const auto on_device = std::vector{a.to(device), b.to(device)};
    const auto use = testing::strict_device_use([&] { sums = squared_norms(on_device); });
    ASSERT_EQ(sums.size(), 2u);
    EXPECT_NEAR(sums[0] / squared_norm(a), 1, 1e-13) << device;
    EXPECT_NEAR(sums[1] / squared_norm(b), 1, 1e-13) << device;
    EXPECT_EQ(use.number_of_waits(), device.is_cpu() ? 0 : 1);
  }
  EXPECT_TRUE(squared_norms({}).empty());
  EXPECT_THROW(squared_norms({at::zeros({2, 3}).t().to(testing::devices().back())}), Error);
}

TEST(SquaredNorm, HasTheSameBitsOnAnyNumberOfThreads) {
  const auto x = testing::normal_tensor("x", {100'003}, at::kFloat);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const double alone = squared_norm(x);
  at::set_num_threads(2);
  EXPECT_EQ(squared_norm(x), alone);
  at::set_num_threads(threads);
}

TEST(SquaredNorm, OfLargeFloatsDoesNotOverflow) {
  EXPECT_NEAR(squared_norm(at::full({4}, 1e30f)) / 4e60, 1, 1e-6);
}

// The steps themselves: tests/optim.

}  // namespace
}  // namespace braid
