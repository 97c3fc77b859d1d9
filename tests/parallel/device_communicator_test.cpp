// Exchanges of a device through a link of which the test says what happens, and through one that
// MPI carries, on any number of ranks.
#include "parallel/device_communicator.h"

#include <chrono>
#include <cstring>
#include <thread>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <mpi.h>

#include "parallel/mpi_world.h"
#include "tests/parallel/fake_link.h"
#include "tests/parallel/ranks.h"
#include "tests/parallel/uneven_exchange.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

using testing::expect_bitwise_equal;
using testing::FakeLink;
using testing::ranks;
using testing::UnevenExchange;
using Kind = DeviceTransfer::Kind;

std::string never_late(const std::string& what, double) {
  return what + " is late";
}

// What a device would exchange later is exchanged at once.
class MpiLink : public DeviceLink {
 public:
  State state() override { return {}; }
  std::unique_ptr<DeviceMark> mark_stream() override { return passed(); }
  std::unique_ptr<DeviceMark> mark_exchanges() override { return passed(); }
  void hold_back_exchanges(DeviceMark&) override {}
  void abort() noexcept override {}

  void enqueue(const std::vector<DeviceTransfer>& transfers) override {
    std::vector<MPI_Request> requests;
    for (const auto& [kind, from, to, bytes, rank] : transfers) {
      const int count = static_cast<int>(bytes);
      if (kind == Kind::kSend) {
        MPI_Isend(from, count, MPI_BYTE, rank, 0, MPI_COMM_WORLD, &requests.emplace_back());
      } else if (kind == Kind::kReceive) {
        MPI_Irecv(to, count, MPI_BYTE, rank, 0, MPI_COMM_WORLD, &requests.emplace_back());
      } else {
        if (kind == Kind::kCopy || rank == ranks().rank()) {
          std::memcpy(to, from, bytes);
        }
        if (kind == Kind::kBroadcast && ranks().size() > 1) {
          MPI_Bcast(to, count, MPI_BYTE, rank, MPI_COMM_WORLD);
        }
      }
    }
    if (!requests.empty()) {
      MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE);
    }
  }

 private:
  static std::unique_ptr<DeviceMark> passed() {
    auto point = std::make_shared<testing::FakeMark::Point>();
    point->is_passed = true;
    return std::make_unique<testing::FakeMark>(point);
  }
};

TEST(DeviceCommunicatorTest, ExchangesAndGathersWhatTheHostDoes) {
  DeviceCommunicator device(
      ranks().rank(), ranks().size(), at::kCPU, std::make_unique<MpiLink>(), never_late);
  const UnevenExchange exchange(ranks());
  const auto exchanged = [&](Communicator& by) {
    const int64_t before = by.bytes_sent();
    const auto received = exchange.received(at::kCPU), all = exchange.all(at::kCPU);
    by.start_all_to_all(exchange.to_send, exchange.out, received, exchange.in, "test")->wait();
    by.start_all_gather(exchange.to_gather, all, exchange.gathered, "test")->wait();
    return std::tuple(received, all, by.bytes_sent() - before);
  };
  const auto [want_exchanged, want_gathered, want_bytes] = exchanged(ranks());
  const auto [got_exchanged, got_gathered, got_bytes] = exchanged(device);
  expect_bitwise_equal("exchanged", got_exchanged, want_exchanged);
  expect_bitwise_equal("gathered", got_gathered, want_gathered);
  EXPECT_EQ(got_bytes, want_bytes);
}

class SecondOfTwo : public ::testing::Test {
 protected:
  std::unique_ptr<Pending> start(const char* what) {
    return communicator_.start_all_gather(at::ones({2}), at::empty({3}), {1, 2}, what);
  }
  static std::string thrown_by(const std::function<void()>& action) {
    try {
      action();
    } catch (const Error& error) {
      return error.what();
    }
    return "nothing";
  }

  FakeLink::Device device_;
  DeviceCommunicator communicator_{1, 2, at::kCPU, std::make_unique<FakeLink>(device_), never_late};
};

TEST_F(SecondOfTwo, TheStreamWaitsAndNotTheHost) {
  const auto pending = start("gradients");
  EXPECT_EQ(device_.over[0]->held_back, 0);
  pending->wait();  // although the exchange is not over
  EXPECT_EQ(device_.over[0]->held_back, 1);
  pending->wait();
  EXPECT_EQ(device_.over[0]->held_back, 1);
}

TEST_F(SecondOfTwo, TensorsAreKeptUntilTheStreamWaits) {
  auto received = at::empty({3});
  const auto pending = communicator_.start_all_gather(at::ones({2}), received, {1, 2}, "test");
  EXPECT_GT(received.use_count(), 1U);
  pending->wait();
  EXPECT_EQ(received.use_count(), 1U);
}

TEST_F(SecondOfTwo, EmptyPartsAreNotTransferred) {
  const auto sent = at::ones({1, 4});
  const auto received = at::empty({3, 4});
  communicator_.start_all_to_all(sent, {0, 1}, received, {2, 1}, "test")->wait();
  ASSERT_EQ(device_.enqueued[0].size(), 2U);
  EXPECT_EQ(device_.enqueued[0][0].kind, Kind::kReceive);
  EXPECT_EQ(device_.enqueued[0][0].bytes, 32U);
  EXPECT_EQ(device_.enqueued[0][1].kind, Kind::kCopy);
  EXPECT_EQ(device_.enqueued[0][1].to, received.data_ptr<float>() + 8);
}

TEST_F(SecondOfTwo, AfterAFailureEveryCallThrowsIt) {
  const auto first = start("first"), second = start("second");
  first->wait();
  device_.set_error("NCCL: remote process exited");
  // The watch may see it before the next exchange does; then it names the one that is under way.
  const auto is_it = [](const std::string& message) {
    return message.ends_with(": NCCL: remote process exited");
  };
  EXPECT_PRED1(is_it, thrown_by([&] { start("third"); }));
  device_.set_error("");
  const auto reason = thrown_by([&] { second->wait(); });
  EXPECT_PRED1(is_it, reason);
  EXPECT_EQ(thrown_by([&] { start("fourth"); }), reason);
  for (int i = 0; i < 10000 && device_.aborted == 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // by the watch, a moment later
  }
  EXPECT_EQ(device_.aborted, 1);
}

TEST_F(SecondOfTwo, WhatIsGivenUpIsAborted) {
  start("gradients").reset();
  EXPECT_EQ(device_.aborted, 1);
  EXPECT_EQ(thrown_by([&] { start("next"); }), "gradients: was given up");
}

TEST_F(SecondOfTwo, TensorsOfAnotherDeviceAreRefused) {
  const auto elsewhere = at::empty({2}, at::device(at::kMeta));
  EXPECT_EQ(thrown_by([&] {
              communicator_.start_all_gather(elsewhere, at::empty({3}), {1, 2}, "gradients");
            }),
            "[communicator] gradients: contiguous tensors of one device are exchanged, cpu; got "
            "meta and cpu");
  EXPECT_EQ(device_.aborted, 0);
}

TEST(DeviceCommunicatorStart, AnErrorOfTheStartIsThrown) {
  FakeLink::Device device;
  device.state.error = "NCCL: no network";
  EXPECT_THROW(DeviceCommunicator(0, 2, at::kCPU, std::make_unique<FakeLink>(device), never_late),
               Error);
  EXPECT_EQ(device.aborted, 1);
}

}  // namespace
}  // namespace braid
