#pragma once
#include <algorithm>
#include <chrono>
#include <cstring>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

namespace braid {

inline double seconds_of(const auto& action) {
  const auto begin = std::chrono::steady_clock::now();
  action();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Bytes a second that memcpy reads and writes together on all of LibTorch's threads, in all
/// `bytes` of them at once.
inline double copy_bandwidth(int64_t bytes) {
  const auto from = at::ones({bytes / 2}, at::kByte);
  auto to = at::empty_like(from);
  const auto copy = [&] {
    at::parallel_for(0, from.numel(), 1 << 16, [&](int64_t begin, int64_t end) {
      std::memcpy(
          to.data_ptr<uint8_t>() + begin, from.const_data_ptr<uint8_t>() + begin, end - begin);
    });
  };
  copy();
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    best = std::min(best, seconds_of(copy));
  }
  return static_cast<double>(from.nbytes() * 2) / best;
}

}  // namespace braid
