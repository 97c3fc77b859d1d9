#pragma once
#include <cstddef>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>

namespace braid {

/// Memory for large blocks that is kept when they are given back. A training step asks for about
/// the same again and again, and memory fresh from the system costs as much to clear as a kernel's
/// pass over it. Blocks are cut from one range of addresses, best fit first, and neighbors that
/// are free become one again, so that blocks of other sizes fit where they were. The range lies on
/// huge pages where the system has them; what was once used of it stays with the process. Any
/// thread may call.
class KeptMemory {
 public:
  /// What is smaller is left to malloc.
  static constexpr std::size_t kSmallest = std::size_t{1} << 20;

  /// Reserves `range` bytes of addresses, no memory yet. Where the system refuses, take() has none.
  explicit KeptMemory(std::size_t range);
  ~KeptMemory();
  KeptMemory(const KeptMemory&) = delete;
  KeptMemory& operator=(const KeptMemory&) = delete;

  /// A block aligned to pages, contents undetermined; nullptr when the range has no room for it.
  void* take(std::size_t bytes);
  /// The block's size as taken, in whole pages; 0 when it is none of these, and then nothing was
  /// done.
  std::size_t give_back(void* block);

  /// Bytes of the range that were ever in use.
  std::size_t reached() const { return reached_; }

 private:
  void add_free(std::byte* begin, std::size_t size);

  std::mutex mutex_;
  std::byte* begin_ = nullptr;
  std::byte* top_ = nullptr;  // behind it nothing is taken or in free_
  std::size_t range_ = 0, reached_ = 0;
  std::unordered_map<void*, std::size_t> taken_;
  std::map<std::byte*, std::size_t> free_;                     // by address
  std::set<std::pair<std::size_t, std::byte*>> free_by_size_;  // the same
};

}  // namespace braid
