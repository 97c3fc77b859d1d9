#pragma once
#include <cstddef>
#include <new>
#include <vector>

namespace braid {

/// The bytes of a cache line, of a register of AVX-512 and of a row of AMX's tiles. What is read or
/// written as such and begins elsewhere lies in two lines, and takes two accesses.
inline constexpr std::size_t kCacheLine = 64;

template <class T>
struct AlignedAllocator {
  using value_type = T;

  AlignedAllocator() = default;
  template <class Other>
  AlignedAllocator(const AlignedAllocator<Other>&) {}  // NOLINT: containers convert them

  T* allocate(std::size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t(kCacheLine)));
  }
  void deallocate(T* memory, std::size_t) {
    ::operator delete(memory, std::align_val_t(kCacheLine));
  }
  bool operator==(const AlignedAllocator&) const { return true; }
};

/// A vector whose first element begins a cache line.
template <class T>
using AlignedVector = std::vector<T, AlignedAllocator<T>>;

}  // namespace braid
