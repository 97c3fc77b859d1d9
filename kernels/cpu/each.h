#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>

#include <ATen/Parallel.h>

namespace braid {

/// Calls with_thread(for_each) on all threads, which make there what they need, and for_each(f)
/// calls f(i): all together for i in [0, count). Each takes the next number when it is done with
/// its last, since with fixed shares one thread that is interrupted, or has more work, keeps all
/// others waiting. Called from one of several threads it runs on that alone.
template <class F>
void on_each_thread(int64_t count, const F& with_thread) {
  std::atomic<int64_t> next = 0;
  at::parallel_for(0, std::min<int64_t>(count, at::get_num_threads()), 1, [&](int64_t, int64_t) {
    with_thread([&](const auto& f) {
      for (int64_t i = next++; i < count; i = next++) {
        f(i);
      }
    });
  });
}

/// The same where threads need nothing of their own.
template <class F>
void for_each_of(int64_t count, const F& f) {
  on_each_thread(count, [&](const auto& for_each) { for_each(f); });
}

}  // namespace braid
