#include "tests/support/strict_memory.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include <sys/mman.h>
#include <unistd.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#include "core/error.h"

namespace braid::testing {
namespace {

constexpr std::size_t kBytes = std::size_t{8} << 30;  // pages count once they are written

std::uint8_t* mapped(int file, int protection) {
  void* address = mmap(nullptr, kBytes, protection, MAP_SHARED | MAP_NORESERVE, file, 0);
  require(address != MAP_FAILED, "[strict device] cannot map ", kBytes, " bytes");
  return static_cast<std::uint8_t*>(address);
}

void set_poisoned([[maybe_unused]] const void* address,
                  [[maybe_unused]] std::size_t bytes,
                  [[maybe_unused]] bool poisoned) {
#ifdef __SANITIZE_ADDRESS__
  if (poisoned) {
    __asan_poison_memory_region(address, bytes);
  } else {
    __asan_unpoison_memory_region(address, bytes);
  }
#endif
}

}  // namespace

StrictMemory::StrictMemory() {
  const int file = memfd_create("strict device", 0);
  require(file >= 0 && ftruncate(file, kBytes) == 0, "[strict device] cannot reserve its memory");
  forbidden_ = mapped(file, PROT_NONE);
  accessible_ = mapped(file, PROT_READ | PROT_WRITE);
  close(file);
}

void* StrictMemory::allocate(std::size_t bytes) {
  constexpr std::size_t kLeast = 64;
  const std::size_t size = std::bit_ceil(std::max(bytes, kLeast));
  void* address = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (auto& reusable = free_[size]; !reusable.empty()) {
      address = reusable.back();
      reusable.pop_back();
    } else {
      require(used_ + size <= kBytes,
              "[strict device] its memory of ",
              kBytes,
              " bytes is full; make the test smaller");
      address = forbidden_ + used_;
      used_ += size;
    }
    blocks_[address] = {size, bytes};
    use_.now += static_cast<std::int64_t>(bytes);
    use_.peak = std::max(use_.peak, use_.now);
    set_poisoned(address, size, true);
    set_poisoned(address, bytes, false);
  }
  std::memset(accessible(address), kFresh, bytes);
  return address;
}

void StrictMemory::free(void* address) {
  const std::lock_guard lock(mutex_);
  const auto found = blocks_.find(address);
  const auto [size, bytes] = found->second;
  set_poisoned(address, size, true);
  free_[size].push_back(address);
  use_.now -= static_cast<std::int64_t>(bytes);
  blocks_.erase(found);
}

StrictMemory::Use StrictMemory::use() {
  const std::lock_guard lock(mutex_);
  return use_;
}

void StrictMemory::reset_peak() {
  const std::lock_guard lock(mutex_);
  use_.peak = use_.now;
}

void StrictMemory::allow_access(bool allow) {
  const std::lock_guard lock(mutex_);
  accesses_ += allow ? 1 : -1;
  const int protection = accesses_ > 0 ? PROT_READ | PROT_WRITE : PROT_NONE;
  require(mprotect(forbidden_, kBytes, protection) == 0,
          "[strict device] cannot change the protection of its memory");
}

void* StrictMemory::accessible(const void* address) const {
  return accessible_ + (static_cast<const std::uint8_t*>(address) - forbidden_);
}

}  // namespace braid::testing
