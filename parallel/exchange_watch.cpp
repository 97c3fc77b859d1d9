#include "parallel/exchange_watch.h"

#include <exception>
#include <utility>

#include "core/error.h"

namespace braid {

ExchangeWatch::ExchangeWatch(DeviceLink& link, Overdue overdue, ByHand)
    : link_(link), overdue_(std::move(overdue)) {}

ExchangeWatch::ExchangeWatch(DeviceLink& link, Overdue overdue)
    : ExchangeWatch(link, std::move(overdue), ByHand{}) {
  thread_ = std::thread([this] { run(); });
}

ExchangeWatch::~ExchangeWatch() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) {
    thread_.join();
  }
}

void ExchangeWatch::add(std::string what,
                        std::unique_ptr<DeviceMark> ready,
                        std::shared_ptr<DeviceMark> over,
                        double seconds) {
  {
    const std::lock_guard lock(mutex_);
    exchanges_.push_back({std::move(what), std::move(ready), std::move(over), seconds});
  }
  changed_.notify_all();
}

// Only the first exchange can be running. What is over leaves; an empty text means that all is
// well.
std::string ExchangeWatch::problem_of_first(Clock::time_point now) {
  std::string what;
  double seconds = 0;
  {
    const std::lock_guard lock(mutex_);
    while (!exchanges_.empty()) {
      auto& first = exchanges_.front();
      if (!first.is_running && first.ready->is_passed()) {
        first.is_running = true;
        first.since = now;
      }
      if (!first.is_running || !first.over->is_passed()) {
        break;
      }
      exchanges_.pop_front();
    }
    if (exchanges_.empty()) {
      return "";
    }
    const auto& first = exchanges_.front();
    what = first.what;
    if (first.is_running &&
        std::chrono::duration<double>(now - first.since).count() > first.seconds) {
      seconds = first.seconds;
    }
  }
  // Neither question is asked under the lock: the second one asks other ranks, for seconds.
  if (const auto error = link_.state().error; !error.empty()) {
    return text(what, ": ", error);
  }
  return seconds > 0 ? overdue_(what, seconds) : "";
}

void ExchangeWatch::look(Clock::time_point now) {
  {
    const std::lock_guard lock(mutex_);
    if (has_failed_) {
      return;
    }
  }
  std::string problem;
  try {
    problem = problem_of_first(now);
  } catch (const std::exception& error) {
    problem = error.what();
  }
  if (!problem.empty()) {
    fail(problem);
  }
}

void ExchangeWatch::fail(const std::string& reason) noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(has_failed_, true)) {
      return;
    }
    failure_ = reason;
    exchanges_.clear();
  }
  // Only now: this lets the thread that waits for the device go on, and it must find the reason.
  link_.abort();
}

void ExchangeWatch::require_sound() const {
  const std::lock_guard lock(mutex_);
  require(!has_failed_, failure_);
}

int64_t ExchangeWatch::under_way() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int64_t>(exchanges_.size());
}

void ExchangeWatch::run() {
  std::unique_lock lock(mutex_);
  while (!ends_) {
    changed_.wait(lock, [this] { return ends_ || !exchanges_.empty(); });
    if (ends_) {
      return;
    }
    lock.unlock();
    look(Clock::now());
    lock.lock();
    changed_.wait_for(lock, std::chrono::milliseconds(1), [this] { return ends_; });
  }
}

}  // namespace braid
