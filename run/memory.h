#pragma once
#include <cstdint>
#include <string>

namespace braid {

/// Bytes of all CPU tensors of the process, counted in LibTorch's CPU allocator. Large blocks are
/// kept for reuse (core/kept_memory.h).
class TensorMemory {
 public:
  /// Starts (once per process); tensors that exist already are not seen.
  static void watch();
  static int64_t now();
  /// The largest now() since the last call, or since watch().
  static int64_t take_peak();
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
