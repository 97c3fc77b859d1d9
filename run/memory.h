#pragma once
#include <cstdint>
#include <string>

#include <c10/core/Device.h>

namespace braid {

/// Bytes of all tensors that the process has on a device. Those of the CPU are counted in an
/// allocator of Braid's, which keeps large blocks for reuse (core/kept_memory.h); those of other
/// devices by LibTorch's allocator, which knows a device once there is a tensor on it.
class TensorMemory {
 public:
  /// Starts counting on the CPU (once per process); tensors that exist already are not seen.
  static void watch();
  static int64_t now(at::Device device = at::kCPU);
  /// The largest now() since the last call, or since counting began.
  static int64_t take_peak(at::Device device = at::kCPU);
};

/// The process's resident memory and its largest value so far, in bytes; 0 where the system does
/// not say.
int64_t resident_bytes();
int64_t peak_resident_bytes();

/// "1.50 GiB", "310 MiB", "12.0 KiB" (powers of 1024), as all sizes that Braid prints.
std::string bytes_text(double bytes);
inline std::string bytes_text(int64_t bytes) {
  return bytes_text(static_cast<double>(bytes));
}

}  // namespace braid
