#pragma once
// How CPU drivers (op_cpu.cpp) share their work among LibTorch's threads.
#include <algorithm>
#include <atomic>
#include <cstdint>

#include <ATen/Parallel.h>

namespace braid {

/// Calls f(begin, end) for ranges that make up [0, count), each on one thread. `work` is the cost
/// of one row in about nanoseconds: little work stays on few threads.
template <class F>
void parallel_rows(int64_t count, int64_t work, const F& f) {
  constexpr int64_t kWorthAThread = 20000;
  at::parallel_for(0, count, 1 + kWorthAThread / (work + 1), f);
}

/// Calls f(i) once for each i in [0, count). A thread that is done takes the next i, so that one
/// with slower work, or one that was interrupted, keeps no other waiting.
///
///   for_each_of(heads, [&](int64_t head) { ... });
///
/// Called inside a parallel region, it runs on the calling thread alone.
template <class F>
void for_each_of(int64_t count, const F& f);

/// for_each_of() for threads that need memory of their own, which they make once:
///
///   on_each_thread(tiles, [&](const auto& for_each) {
///     Scratch scratch;                                     // once on each thread
///     for_each([&](int64_t tile) { run(tile, scratch); });  // all tiles, each on some thread
///   });
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

template <class F>
void for_each_of(int64_t count, const F& f) {
  on_each_thread(count, [&](const auto& for_each) { for_each(f); });
}

}  // namespace braid
