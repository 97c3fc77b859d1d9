#pragma once
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "parallel/device_link.h"

namespace braid {

/// Notices what goes wrong with exchanges of a device, for which the host does not wait: an error
/// of any rank, or ranks that do not come. It then aborts the link, so that the device's queue goes
/// on and no rank hangs, and the next call throws. Exchanges run one after another, so one's time
/// counts from when its tensors are computed and the one before it is over.
class ExchangeWatch {
 public:
  using Clock = std::chrono::steady_clock;

  /// What is said of an exchange that takes longer than it may: its name, its seconds.
  using Overdue = std::function<std::string(const std::string& what, double seconds)>;

  /// With a thread that looks every millisecond while exchanges are under way. `link` must outlive
  /// the watch.
  ExchangeWatch(DeviceLink& link, Overdue overdue);
  /// Without a thread: whoever made it calls look().
  struct ByHand {};
  ExchangeWatch(DeviceLink& link, Overdue overdue, ByHand);
  ~ExchangeWatch();
  ExchangeWatch(const ExchangeWatch&) = delete;
  ExchangeWatch& operator=(const ExchangeWatch&) = delete;

  /// An exchange that was enqueued: it begins behind `ready`, is over at `over`, and may take
  /// `seconds`.
  void add(std::string what,
           std::unique_ptr<DeviceMark> ready,
           std::shared_ptr<DeviceMark> over,
           double seconds);

  /// Forgets exchanges that are over, and fails with the first error or missed time. The thread
  /// does it by itself.
  void look(Clock::time_point now);

  /// Throws Error with what failed first.
  void require_sound() const;
  /// Nothing can be exchanged any more, for this reason. The first reason stays.
  void fail(const std::string& reason) noexcept;

  /// Exchanges that were not over at the last look.
  int64_t under_way() const;

 private:
  struct Exchange {
    std::string what;
    std::unique_ptr<DeviceMark> ready;
    std::shared_ptr<DeviceMark> over;
    double seconds = 0;
    bool is_running = false;
    Clock::time_point since{};
  };

  std::string problem_of_first(Clock::time_point now);
  void run();

  DeviceLink& link_;
  Overdue overdue_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Exchange> exchanges_;
  std::string failure_;
  bool has_failed_ = false, ends_ = false;
  std::thread thread_;
};

}  // namespace braid
