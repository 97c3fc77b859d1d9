#include "tests/support/strict_memory.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include <sys/mman.h>
#include <unistd.h>

#include "core/error.h"

namespace braid::testing {
namespace {

constexpr std::size_t kBytes = std::size_t{8} << 30;  // pages count once they are written

std::uint8_t* mapped(int file, int protection) {
  void* address = mmap(nullptr, kBytes, protection, MAP_SHARED | MAP_NORESERVE, file, 0);
  require(address != MAP_FAILED, "[strict device] cannot map ", kBytes, " bytes");
  return static_cast<std::uint8_t*>(address);
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
    sizes_[address] = size;
  }
  std::memset(accessible(address), kFresh, bytes);
  return address;
}

void StrictMemory::free(void* address) {
  const std::lock_guard lock(mutex_);
  const auto found = sizes_.find(address);
  free_[found->second].push_back(address);
  sizes_.erase(found);
}

void* StrictMemory::accessible(const void* address) const {
  return accessible_ + (static_cast<const std::uint8_t*>(address) - forbidden_);
}

}  // namespace braid::testing
