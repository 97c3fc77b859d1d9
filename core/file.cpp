#include "core/file.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/error.h"
#include "core/interruption.h"
#include "core/output_place.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_with_errno(const char* action, const fs::path& path) {
  fail("cannot ", action, " ", path.string(), ": ", std::strerror(errno));
}

class Descriptor {
 public:
  Descriptor(const fs::path& path, int flags) : value_(::open(path.c_str(), flags | O_CLOEXEC)) {
    if (value_ < 0) {
      fail_with_errno("open", path);
    }
  }
  ~Descriptor() { ::close(value_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  operator int() const { return value_; }

 private:
  int value_;
};

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

std::size_t read_some(int descriptor, void* buffer, std::size_t size, const fs::path& path) {
  ssize_t count = 0;
  do {
    count = ::read(descriptor, buffer, size);
  } while (count < 0 && errno == EINTR);
  if (count < 0) {
    fail_with_errno("read", path);
  }
  return static_cast<std::size_t>(count);
}

// O_NONBLOCK: a FIFO without a writer would wait for one.
int opened_at_once(const fs::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    fail_with_errno("open", path);
  }
  return descriptor;
}

std::size_t size_of(int descriptor, const fs::path& path) {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) {
    fail_with_errno("read the size of", path);
  }
  require(S_ISREG(status.st_mode), path.string(), " is not a file");
  return static_cast<std::size_t>(status.st_size);
}

// What a signal handler can read: entries change only by atomic stores, `begin` last when one is
// taken and first when it is given back.
struct Mapping {
  std::atomic<std::uintptr_t> begin{0};
  std::atomic<std::size_t> size{0};
  std::atomic<const char*> path{nullptr};
};
constexpr std::uintptr_t kTaken = 1;  // no page begins there
std::array<Mapping, 4096> mappings;   // files beyond that many end with a bare SIGBUS

void note_mapping(const void* data, std::size_t size, const char* path) {
  for (Mapping& mapping : mappings) {
    std::uintptr_t free = 0;
    if (mapping.begin.compare_exchange_strong(free, kTaken)) {
      mapping.size = size;
      mapping.path = path;
      mapping.begin = reinterpret_cast<std::uintptr_t>(data);
      return;
    }
  }
}

void forget_mapping(const void* data) {
  for (Mapping& mapping : mappings) {
    if (mapping.begin == reinterpret_cast<std::uintptr_t>(data)) {
      mapping.begin = 0;
      return;
    }
  }
}

void write_error(const char* text) {
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, std::strlen(text));
}

// Only what is safe in a signal handler. The read cannot go on, nor throw from where it happened.
void end_for_lost_page(int signal, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  for (const Mapping& mapping : mappings) {
    const std::uintptr_t begin = mapping.begin;
    if (begin > kTaken && begin <= address && address - begin < mapping.size) {
      write_error("braid: ");
      write_error(mapping.path);
      write_error(
          ": cannot be read any more; it was cut short while it was in use, or its disk fails\n");
      ::_exit(1);
    }
  }
  ::signal(signal, SIG_DFL);  // the access is repeated, and ends the process as it would have
}

std::string hexadecimal(XXH128_hash_t hash) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  std::string digits;
  for (const unsigned char byte : canonical.digest) {
    digits += "0123456789abcdef"[byte >> 4];
    digits += "0123456789abcdef"[byte & 15];
  }
  return digits;
}

// A FIFO waits for its reader, as the shell does, but looks for signals meanwhile.
int opened_through(const OutputPlace& place) {
  if (place.descriptor >= 0) {
    return ::fcntl(place.descriptor, F_DUPFD_CLOEXEC, 3);
  }
  int descriptor = -1;
  while ((descriptor = ::open(place.path.c_str(), O_WRONLY | O_CLOEXEC | O_NONBLOCK)) < 0 &&
         errno == ENXIO) {
    stop_if_interrupted();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return descriptor;
}

// A new file of our own, with the permissions of the one it is to replace.
int made_temporary_file(const fs::path& temporary, const fs::path& replaced) {
  ::unlink(temporary.c_str());  // an earlier process's; never written through, should it be a link
  const int descriptor = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  struct stat before {};
  if (descriptor >= 0 && ::stat(replaced.c_str(), &before) == 0) {
    ::fchmod(descriptor, before.st_mode & 0777);
  }
  return descriptor;
}

// Whether a call that failed is to be tried again, if need be once the descriptor takes bytes.
bool try_again(int descriptor) {
  if (errno == EAGAIN) {
    pollfd ready{descriptor, POLLOUT, 0};
    ::poll(&ready, 1, -1);
    return true;
  }
  return errno == EINTR;
}

}  // namespace

std::string read_file(const fs::path& path) {
  const Descriptor descriptor(path, O_RDONLY);
  std::string contents, buffer(std::size_t{1} << 16, '\0');
  while (const std::size_t count = read_some(descriptor, buffer.data(), buffer.size(), path)) {
    contents.append(buffer, 0, count);
  }
  return contents;
}

void fsync_path(const fs::path& path) {
  const Descriptor descriptor(path, O_RDONLY);
  if (::fsync(descriptor) != 0) {
    fail_with_errno("write to disk", path);
  }
}

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)), descriptor_(-1) {
  const auto place = output_place(path_);
  if (place.through) {
    descriptor_ = opened_through(place);
  } else {
    path_ = place.path;
    temporary_ = path_.string() + kTemporarySuffix;
    descriptor_ = made_temporary_file(temporary_, path_);
  }
  if (descriptor_ < 0) {
    place.through ? fail_with_errno("open", path_) : fail_with_errno("create", temporary_);
  }
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
    if (!temporary_.empty()) {
      ::unlink(temporary_.c_str());
    }
  }
}

void AtomicFile::write(const void* data, std::size_t size) {
  const auto* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t count = ::write(descriptor_, bytes, size);
    if (count < 0) {
      if (try_again(descriptor_)) {
        continue;
      }
      fail_with_errno("write", path_);
    }
    bytes += count;
    size -= static_cast<std::size_t>(count);
  }
}

void AtomicFile::skip(std::size_t size) {
  if (temporary_.empty()) {
    const std::string zeros(std::min(size, std::size_t{1} << 20), '\0');
    for (std::size_t left = size; left > 0; left -= std::min(left, zeros.size())) {
      write(zeros.data(), std::min(left, zeros.size()));
    }
    return;
  }
  const off_t end = ::lseek(descriptor_, static_cast<off_t>(size), SEEK_CUR);
  if (end < 0 || ::ftruncate(descriptor_, end) != 0) {
    fail_with_errno("extend", path_);
  }
}

void AtomicFile::resize(std::size_t size) {
  require(!temporary_.empty(), path_.string(), ": is no regular file, which this output has to be");
  if (::ftruncate(descriptor_, static_cast<off_t>(size)) != 0) {
    fail_with_errno("extend", path_);
  }
}

void AtomicFile::write_at(std::size_t position, const void* data, std::size_t size) {
  const auto* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t count = ::pwrite(descriptor_, bytes, size, static_cast<off_t>(position));
    if (count < 0) {
      if (errno == EINTR) {
        continue;
      }
      fail_with_errno("write", path_);
    }
    bytes += count;
    position += static_cast<std::size_t>(count);
    size -= static_cast<std::size_t>(count);
  }
}

void AtomicFile::commit() {
  if (temporary_.empty()) {
    ::close(std::exchange(descriptor_, -1));
    return;
  }
  if (::fsync(descriptor_) != 0) {
    fail_with_errno("write to disk", path_);
  }
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    fail_with_errno("put in place", path_);
  }
  ::close(std::exchange(descriptor_, -1));
  fsync_path(folder_of(path_));
}

void write_file_atomically(const fs::path& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

InputFile::InputFile(fs::path path) : path_(std::move(path)), descriptor_(opened_at_once(path_)) {
  try {
    size_ = size_of(descriptor_, path_);
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

InputFile::~InputFile() {
  ::close(descriptor_);
}

void InputFile::read_at(std::size_t position, void* data, std::size_t size) const {
  auto* bytes = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t count = ::pread(descriptor_, bytes, size, static_cast<off_t>(position));
    if (count < 0) {
      if (errno == EINTR) {
        continue;
      }
      fail_with_errno("read", path_);
    }
    require(count > 0,
            path_.string(),
            ": has no byte ",
            position,
            " any more (it had ",
            size_,
            " bytes when it was opened); it was cut short while it was in use");
    bytes += count;
    position += static_cast<std::size_t>(count);
    size -= static_cast<std::size_t>(count);
  }
}

MappedFile::MappedFile(fs::path path) : path_(std::move(path)) {
  const InputFile file(path_);
  size_ = file.size();
  if (size_ == 0) {
    return;
  }
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.descriptor_, 0);
  if (address == MAP_FAILED) {
    fail_with_errno("map", path_);
  }
  data_ = static_cast<const std::byte*>(address);
  note_mapping(data_, size_, path_.c_str());
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) {
    forget_mapping(data_);
    ::munmap(const_cast<std::byte*>(data_), size_);
  }
}

void report_lost_pages() {
  struct sigaction action {};
  action.sa_sigaction = end_for_lost_page;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &action, nullptr);
}

std::string xxh3_128(std::string_view bytes) {
  return hexadecimal(XXH3_128bits(bytes.data(), bytes.size()));
}

std::string xxh3_128_of_file(const fs::path& path, const std::function<void()>& between) {
  const Descriptor descriptor(path, O_RDONLY);
  ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_SEQUENTIAL);  // reads further ahead
  std::vector<char> buffer(std::size_t{1} << 20);
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  while (const std::size_t count = read_some(descriptor, buffer.data(), buffer.size(), path)) {
    XXH3_128bits_update(&state, buffer.data(), count);
    if (between) {
      between();
    }
  }
  return hexadecimal(XXH3_128bits_digest(&state));
}

}  // namespace braid
