#include "core/kept_memory.h"

#include <algorithm>
#include <iterator>

#include <sys/mman.h>

namespace braid {
namespace {

constexpr std::size_t kPage = 4096;

}  // namespace

KeptMemory::KeptMemory(std::size_t range) : range_(range) {
  void* reserved = mmap(
      nullptr, range, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) {
    range_ = 0;
    return;
  }
  madvise(reserved, range, MADV_HUGEPAGE);  // a wish: without huge pages it goes on as it is
  begin_ = top_ = static_cast<std::byte*>(reserved);
}

KeptMemory::~KeptMemory() {
  if (range_ > 0) {
    munmap(begin_, range_);
  }
}

void* KeptMemory::take(std::size_t bytes) {
  const std::size_t size = (bytes + kPage - 1) / kPage * kPage;
  const std::lock_guard lock(mutex_);
  std::byte* block = nullptr;
  if (const auto best = free_by_size_.lower_bound({size, nullptr}); best != free_by_size_.end()) {
    const auto [free_size, begin] = *best;
    block = begin;
    free_.erase(begin);
    free_by_size_.erase(best);
    if (free_size > size) {
      add_free(begin + size, free_size - size);
    }
  } else if (size <= range_ - static_cast<std::size_t>(top_ - begin_)) {
    block = top_;
    top_ += size;
    reached_ = std::max(reached_, static_cast<std::size_t>(top_ - begin_));
  } else {
    return nullptr;
  }
  taken_.emplace(block, size);
  return block;
}

std::size_t KeptMemory::give_back(void* given) {
  const std::lock_guard lock(mutex_);
  const auto found = taken_.find(given);
  if (found == taken_.end()) {
    return 0;
  }
  auto* begin = static_cast<std::byte*>(given);
  const std::size_t given_size = found->second;
  std::size_t size = given_size;
  taken_.erase(found);
  // One with the free blocks before and behind it, or with what was never taken.
  auto next = free_.lower_bound(begin);
  if (next != free_.end() && begin + size == next->first) {
    size += next->second;
    free_by_size_.erase({next->second, next->first});
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == begin) {
      begin = before->first;
      size += before->second;
      free_by_size_.erase({before->second, before->first});
      free_.erase(before);
    }
  }
  if (begin + size == top_) {
    top_ = begin;
  } else {
    add_free(begin, size);
  }
  return given_size;
}

void KeptMemory::add_free(std::byte* begin, std::size_t size) {
  free_.emplace(begin, size);
  free_by_size_.emplace(size, begin);
}

}  // namespace braid
