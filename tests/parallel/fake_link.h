#pragma once
// A DeviceLink of which a test says what happens.
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "parallel/device_link.h"

namespace braid::testing {

class FakeMark : public DeviceMark {
 public:
  struct Point {
    bool is_passed = false;
    std::string error;  // of the device
    int held_back = 0;  // how often a stream was made to wait for it
  };

  explicit FakeMark(std::shared_ptr<Point> point) : point_(std::move(point)) {}
  bool is_passed() override {
    require(point_->error.empty(), point_->error);
    return point_->is_passed;
  }
  void hold_back_stream() override { ++point_->held_back; }

 private:
  std::shared_ptr<Point> point_;
};

class FakeLink : public DeviceLink {
 public:
  /// What the test sees and says; it outlives the link.
  struct Device {
    /// For a test whose link has a watching thread.
    void set_error(const std::string& error) {
      const std::lock_guard lock(mutex);
      state.error = error;
    }

    std::mutex mutex;  // of state
    State state;
    std::vector<std::shared_ptr<FakeMark::Point>> ready, over;  // of each exchange
    std::vector<std::vector<DeviceTransfer>> enqueued;
    std::atomic<int> aborted = 0;
    std::function<void()> on_abort = [] {};
  };

  explicit FakeLink(Device& device) : device_(device) {}

  State state() override {
    const std::lock_guard lock(device_.mutex);
    return device_.state;
  }
  std::unique_ptr<DeviceMark> mark_stream() override { return mark(device_.ready); }
  std::unique_ptr<DeviceMark> mark_exchanges() override { return mark(device_.over); }
  void hold_back_exchanges(DeviceMark&) override {}
  void enqueue(const std::vector<DeviceTransfer>& transfers) override {
    device_.enqueued.push_back(transfers);
  }
  void abort() noexcept override {
    ++device_.aborted;
    device_.on_abort();
  }

 private:
  static std::unique_ptr<DeviceMark> mark(std::vector<std::shared_ptr<FakeMark::Point>>& points) {
    return std::make_unique<FakeMark>(points.emplace_back(std::make_shared<FakeMark::Point>()));
  }

  Device& device_;
};

}  // namespace braid::testing
