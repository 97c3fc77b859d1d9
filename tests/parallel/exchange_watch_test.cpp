#include "parallel/exchange_watch.h"

#include <atomic>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/parallel/fake_link.h"

namespace braid {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::FakeLink;
using testing::FakeMark;

std::string late(const std::string& what, double time) {
  return text(what, " is late by ", time, " s");
}

class ExchangeWatchTest : public ::testing::Test {
 protected:
  void add(const char* what, double time) {
    auto ready = link_.mark_stream();
    watch_.add(what, std::move(ready), link_.mark_exchanges(), time);
  }
  std::string failure() const {
    try {
      watch_.require_sound();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  FakeLink::Device device_;
  FakeLink link_{device_};
  ExchangeWatch watch_{link_, late, ExchangeWatch::ByHand{}};
  ExchangeWatch::Clock::time_point start_ = ExchangeWatch::Clock::now();
};

TEST_F(ExchangeWatchTest, WhatIsOverInTimeIsForgotten) {
  add("gradients", 10);
  device_.ready[0]->is_passed = true;
  watch_.look(start_);
  EXPECT_EQ(watch_.under_way(), 1);
  device_.over[0]->is_passed = true;
  watch_.look(start_ + seconds(9));
  EXPECT_EQ(watch_.under_way(), 0);
  watch_.look(start_ + seconds(1000));
  EXPECT_EQ(failure(), "");
  EXPECT_EQ(device_.aborted, 0);
}

TEST_F(ExchangeWatchTest, WhatTakesTooLongIsAbortedAndTheNextCallThrows) {
  add("gradients", 10);
  device_.ready[0]->is_passed = true;
  watch_.look(start_);
  watch_.look(start_ + milliseconds(9900));
  EXPECT_EQ(failure(), "");
  watch_.look(start_ + milliseconds(10100));
  EXPECT_EQ(failure(), "gradients is late by 10 s");
  EXPECT_EQ(device_.aborted, 1);
  EXPECT_EQ(watch_.under_way(), 0);
}

TEST_F(ExchangeWatchTest, TimeCountsFromWhenTheTensorsAreComputed) {
  add("gradients", 10);
  watch_.look(start_);
  watch_.look(start_ + seconds(1000));  // the device computes
  EXPECT_EQ(failure(), "");
  device_.ready[0]->is_passed = true;
  watch_.look(start_ + seconds(1001));
  watch_.look(start_ + seconds(1010));
  EXPECT_EQ(failure(), "");
  watch_.look(start_ + seconds(1012));
  EXPECT_EQ(failure(), "gradients is late by 10 s");
}

TEST_F(ExchangeWatchTest, TimeCountsFromWhenTheExchangeBeforeIsOver) {
  add("tokens", 10);
  add("gradients", 10);
  device_.ready[0]->is_passed = device_.ready[1]->is_passed = true;
  watch_.look(start_);
  device_.over[0]->is_passed = true;
  watch_.look(start_ + seconds(9));
  watch_.look(start_ + seconds(18));
  EXPECT_EQ(failure(), "");
  watch_.look(start_ + seconds(20));
  EXPECT_EQ(failure(), "gradients is late by 10 s");
}

TEST_F(ExchangeWatchTest, AnErrorOfAnyRankEndsIt) {
  add("tokens", 10);
  device_.state.error = "NCCL: remote process exited";
  watch_.look(start_);
  EXPECT_EQ(failure(), "tokens: NCCL: remote process exited");
  EXPECT_EQ(device_.aborted, 1);
}

TEST_F(ExchangeWatchTest, AnErrorOfTheDeviceEndsIt) {
  add("tokens", 10);
  device_.ready[0]->error = "CUDA: an illegal memory access was encountered";
  watch_.look(start_);
  EXPECT_EQ(failure(), "CUDA: an illegal memory access was encountered");
  EXPECT_EQ(device_.aborted, 1);
}

TEST_F(ExchangeWatchTest, TheFirstReasonStays) {
  add("tokens", 10);
  watch_.fail("first");
  watch_.fail("second");
  device_.state.error = "third";
  watch_.look(start_);
  EXPECT_EQ(failure(), "first");
  EXPECT_EQ(device_.aborted, 1);
}

// What waits for the device goes on once it is aborted, and asks.
TEST_F(ExchangeWatchTest, TheReasonIsKnownBeforeTheLinkIsAborted) {
  std::string known;
  device_.on_abort = [&] { known = failure(); };
  watch_.fail("late");
  EXPECT_EQ(known, "late");
}

TEST(ExchangeWatchThread, NoticesByItself) {
  FakeLink::Device device;
  FakeLink link(device);
  std::atomic<bool> aborted = false;
  device.on_abort = [&] { aborted = true; };
  ExchangeWatch watch(link, late);
  auto ready = link.mark_stream();
  device.ready[0]->is_passed = true;
  watch.add("gradients", std::move(ready), link.mark_exchanges(), 0.01);
  while (!aborted) {  // the test's own time-out is the only limit
    std::this_thread::sleep_for(milliseconds(1));
  }
  EXPECT_THROW(watch.require_sound(), Error);
}

}  // namespace
}  // namespace braid
