#include "core/interruption.h"

#include <atomic>

namespace braid {
namespace {

std::atomic<int> requested_by = 0;
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler sets it");

}  // namespace

void request_interruption(int signal) noexcept {
  int none = 0;
  requested_by.compare_exchange_strong(none, signal);
}

int interruption() noexcept {
  return requested_by;
}

void forget_interruption() noexcept {
  requested_by = 0;
}

void stop_if_interrupted() {
  if (const int signal = interruption(); signal != 0) [[unlikely]] {
    throw Interrupted(signal);
  }
}

}  // namespace braid
