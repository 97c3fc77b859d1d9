#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace braid::testing {

/// Memory that is mapped twice: at the addresses that allocate() returns nobody may read or write
/// (the process ends by SIGSEGV, as it does where the CPU follows a pointer of a GPU), and at those
/// that accessible() gives for them the test's device may. Under AddressSanitizer what allocate()
/// did not give, and what was freed, is poisoned. Safe for many threads.
class StrictMemory {
 public:
  StrictMemory();

  /// New memory is filled with kFresh, so that what is read before it is written shows: as numbers
  /// of absurd size, and as indices far out of range.
  void* allocate(std::size_t bytes);
  void free(void* address);
  void* accessible(const void* address) const;

  struct Use {
    std::int64_t now = 0, peak = 0;  // bytes that were asked for
  };
  Use use();
  void reset_peak();

  /// The addresses of allocate() may be touched while more calls had true than false.
  void allow_access(bool allow);

  static constexpr int kFresh = 0xFE;

 private:
  std::uint8_t *forbidden_, *accessible_;
  std::mutex mutex_;
  std::size_t used_ = 0;
  int accesses_ = 0;
  struct Block {
    std::size_t size, bytes;  // kept, and asked for
  };
  std::unordered_map<void*, Block> blocks_;  // that are allocated
  Use use_;
  std::map<std::size_t, std::vector<void*>> free_;  // by size
};

}  // namespace braid::testing
