#include "core/pages.h"

#include <cerrno>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

#include <sys/mman.h>
#include <unistd.h>

#include "core/error.h"

namespace braid {
namespace {

struct Pages {
  void* data;
  std::size_t size;
};

std::uintptr_t page_size() {
  static const auto size = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  return size;
}

Pages touched(const void* data, std::size_t size) {
  const auto begin = reinterpret_cast<std::uintptr_t>(data) / page_size() * page_size();
  return {reinterpret_cast<void*>(begin), reinterpret_cast<std::uintptr_t>(data) + size - begin};
}

Pages within(const void* data, std::size_t size) {
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  const auto begin = (address + page_size() - 1) / page_size() * page_size();
  const auto end = (address + size) / page_size() * page_size();
  return {reinterpret_cast<void*>(begin), end > begin ? end - begin : 0};
}

class BackgroundPrefetch {
 public:
  ~BackgroundPrefetch() {
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }

  void ask(std::vector<PageRange> ranges) {
    {
      const std::lock_guard lock(mutex_);
      ranges_ = std::move(ranges);
      next_ = 0;
    }
    changed_.notify_one();
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return ends_ || next_ < ranges_.size(); });
      if (ends_) {
        return;
      }
      const auto range = ranges_[next_++];
      lock.unlock();
      prefetch_pages(range.data, range.size);
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<PageRange> ranges_;
  std::size_t next_ = 0;
  bool ends_ = false;
  std::thread thread_{[this] { run(); }};  // last: it uses all of the others
};

}  // namespace

void prefetch_in_background(std::vector<PageRange> ranges) {
  static BackgroundPrefetch prefetch;
  prefetch.ask(std::move(ranges));
}

void read_pages(const void* data, std::size_t size) {
  constexpr int kPopulateRead = 22;  // MADV_POPULATE_READ, Linux 5.14
  const auto pages = touched(data, size);
  if (madvise(pages.data, pages.size, kPopulateRead) == 0) {
    return;
  }
  require(errno == EINVAL,
          "cannot read ",
          size,
          " bytes of a mapped file: ",
          std::strerror(errno),
          "; was the file cut short, or is the disk failing?");
  // An older system: reading one byte of a page brings it in.
  madvise(pages.data, pages.size, MADV_WILLNEED);
  const auto* bytes = static_cast<const volatile char*>(pages.data);
  for (std::size_t at = 0; at < pages.size; at += page_size()) {
    bytes[at];
  }
}

void prefetch_pages(const void* data, std::size_t size) {
  const auto pages = touched(data, size);
  madvise(pages.data, pages.size, MADV_WILLNEED);  // only a hint
}

void release_mapped_pages(const void* data, std::size_t size) {
  const auto pages = within(data, size);
  if (pages.size > 0) {
    madvise(pages.data, pages.size, MADV_DONTNEED);
  }
}

}  // namespace braid
