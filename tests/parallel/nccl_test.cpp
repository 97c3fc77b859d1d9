// Exchanges of tensors on GPUs. They need one for each rank of a machine, and are skipped without.
#include "parallel/nccl.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "parallel/cuda_plugin.h"
#include "parallel/mpi_world.h"
#include "tests/parallel/ranks.h"
#include "tests/parallel/uneven_exchange.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

using testing::expect_bitwise_equal;
using testing::ranks;
using testing::UnevenExchange;

class Nccl : public ::testing::Test {
 protected:
  void SetUp() override {
    int devices = 0;
    try {
      devices = cuda_plugin().device_count();
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
    if (devices < launched_as().on_this_machine) {
      GTEST_SKIP() << "needs a GPU for each rank, there are " << devices;
    }
    device_ = at::Device(
        at::kCUDA, static_cast<c10::DeviceIndex>(ranks().rank() % launched_as().on_this_machine));
  }

  at::Device device_ = at::kCPU;
};

TEST_F(Nccl, ExchangesAndGathersWhatMpiDoes) {
  const UnevenExchange exchange(ranks());
  const auto exchanged = [&](at::Device device) {
    const auto received = exchange.received(device), all = exchange.all(device);
    // Both under way at once, of values that the device may still be computing.
    const auto first = ranks().start_all_to_all(
        exchange.to_send.to(device) * 2, exchange.out, received, exchange.in, "test");
    const auto second =
        ranks().start_all_gather(exchange.to_gather.to(device) * 2, all, exchange.gathered, "test");
    first->wait();
    second->wait();
    return std::pair((received + 1).cpu(), (all + 1).cpu());
  };
  exchanged(device_);  // starts NCCL, whose id travels too
  const int64_t before = ranks().bytes_sent();
  const auto want = exchanged(at::kCPU);
  const int64_t by_mpi = ranks().bytes_sent() - before;
  const auto got = exchanged(device_);
  expect_bitwise_equal("exchanged", got.first, want.first);
  expect_bitwise_equal("gathered", got.second, want.second);
  EXPECT_EQ(ranks().bytes_sent() - before, 2 * by_mpi);
}

TEST_F(Nccl, WorksInGroups) {
  const auto group = ranks().split(ranks().rank() % 2);
  const auto all = at::empty({group->size()}, at::device(device_));
  const std::vector<int64_t> rows(static_cast<std::size_t>(group->size()), 1);
  group
      ->start_all_gather(at::full({1}, static_cast<double>(ranks().rank()), at::device(device_)),
                         all,
                         rows,
                         "test")
      ->wait();
  for (int64_t r = 0; r < group->size(); ++r) {
    EXPECT_EQ(all[r].item<double>(), static_cast<double>(2 * r + ranks().rank() % 2));
  }
}

}  // namespace
}  // namespace braid
