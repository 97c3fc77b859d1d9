#pragma once
#include <atomic>
#include <cstdint>

#include <ATen/Parallel.h>

namespace braid {

/// Calls f(i) for i in [0, count) on all threads. Each takes the next number when it is done with
/// its last, since with fixed shares one thread that is interrupted keeps all others waiting.
/// Called from one of several threads it runs on that alone.
template <class F>
void for_each_of(int64_t count, const F& f) {
  std::atomic<int64_t> next = 0;
  at::parallel_for(0, at::get_num_threads(), 1, [&](int64_t, int64_t) {
    for (int64_t i = next++; i < count; i = next++) {
      f(i);
    }
  });
}

}  // namespace braid
