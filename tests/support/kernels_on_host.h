#pragma once
#include <cstdint>

namespace braid::testing {

/// While one lives, operations on tensors of the strict device (tests/support/strict_device.h) run
/// the kernels of kernels/cuda, which the CPU executes thread by thread (tests/cuda_on_host).
/// `order` is that of threads, warps and blocks: 0 ascending, 1 descending, others shuffled. The
/// chip is a Hopper (9) or one before it (8), whose tensor cores have no products of warpgroups.
class KernelsOnHost {
 public:
  explicit KernelsOnHost(std::uint64_t order = 0, int compute_capability = 9);
  ~KernelsOnHost();
  KernelsOnHost(const KernelsOnHost&) = delete;
  KernelsOnHost& operator=(const KernelsOnHost&) = delete;

  /// Kernels that ran so far.
  std::int64_t launches() const;

 private:
  std::int64_t launched_before_;
};

}  // namespace braid::testing
