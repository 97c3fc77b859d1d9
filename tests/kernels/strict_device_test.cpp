#include "tests/support/strict_device.h"

#include <csignal>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/kernels/check_op.h"
#include "tests/support/compare.h"
#include "tests/support/normal_tensor.h"

namespace braid::testing {
namespace {

TEST(StrictDevice, EndsAProcessThatTouchesItsMemory) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto x = at::ones({3}, at::kFloat).to(strict_device());
  EXPECT_EXIT(
      *static_cast<volatile float*>(x.data_ptr()) = 1, ::testing::KilledBySignal(SIGSEGV), "");
}

TEST(StrictDevice, GivesTheValuesAndGradientsOfTheCpu) {
  const auto f = [](at::Device device) {
    const auto a = normal_tensor("a", {5, 7}).to(device).requires_grad_(true),
               b = normal_tensor("b", {7, 4}).to(device).requires_grad_(true);
    const auto y = at::matmul(a, b).transpose(0, 1).narrow(0, 1, 3).softmax(-1);
    at::cat({y, y.square()}).select(1, 2).sum().backward();
    return std::vector{y.detach().cpu(), a.grad().cpu(), b.grad().cpu()};
  };
  const auto want = f(at::kCPU), got = f(strict_device());
  for (std::size_t i = 0; i < want.size(); ++i) {
    expect_bitwise_equal(text("result ", i), got[i], want[i]);
  }
}

TEST(StrictDevice, RefusesTensorsOfTwoDevices) {
  const auto ours = at::ones({3}, at::kFloat).to(strict_device()), cpu = at::ones({3}, at::kFloat);
  EXPECT_ANY_THROW(ours + cpu);
  EXPECT_ANY_THROW(at::zeros({}, at::kFloat).add_(ours.sum()));  // it would be written to
  const auto message = error_of([&] { ours.index_select(0, at::zeros({2}, at::kLong)); });
  EXPECT_TRUE(
      message.starts_with("[strict device] aten::index_select takes tensors of two devices"))
      << message;
  EXPECT_EQ((ours + at::ones({}, at::kFloat)).sum().item<float>(), 6);  // as on CUDA
}

TEST(StrictDevice, ShowsWhatIsReadBeforeItIsWritten) {
  const auto options = at::TensorOptions(strict_device());
  EXPECT_LT(at::empty({4}, options.dtype(at::kLong)).max().item<int64_t>(), -(int64_t{1} << 48));
  EXPECT_GT(at::empty({4}, options.dtype(at::kDouble)).abs().min().item<double>(), 1e300);
}

TEST(StrictDevice, CountsOperationsAndWaits) {
  const auto x = normal_tensor("x", {4, 4}).to(strict_device());
  const auto none = strict_device_use([&] {
    const auto y = (x * 2 + 1).softmax(-1);
    y.masked_fill(y > 0.5, 0).copy_(x);
  });
  EXPECT_EQ(none.number_of_waits(), 0);
  EXPECT_EQ(none.operations.at("aten::mul"), 1);
  EXPECT_EQ(none.operations.at("copy"), 2);  // of the masked copy, and the last
  const auto some = strict_device_use([&] {
    static_cast<void>(x.sum().item<double>());
    static_cast<void>(x.index({x > 0}));
    static_cast<void>((x > 0).nonzero());
    static_cast<void>(x.cpu());
    static_cast<void>(at::ones({3}).to(strict_device()));
  });
  EXPECT_EQ(some.number_of_waits(), 5);
  EXPECT_EQ(some.waits.at("aten::nonzero"), 2);  // one of them for the mask
}

}  // namespace
}  // namespace braid::testing
