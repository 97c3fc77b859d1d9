#include "core/pages.h"

#include <cerrno>
#include <cstdint>
#include <cstring>

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

}  // namespace

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
