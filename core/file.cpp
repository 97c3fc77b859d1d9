#include "core/file.h"

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/error.h"

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

AtomicFile::AtomicFile(fs::path path)
    : path_(std::move(path)),
      temporary_(path_.string() + ".tmp"),
      descriptor_(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) {
    fail_with_errno("create", temporary_);
  }
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
    ::unlink(temporary_.c_str());
  }
}

void AtomicFile::write(const void* data, std::size_t size) {
  const auto* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t count = ::write(descriptor_, bytes, size);
    if (count < 0) {
      if (errno == EINTR) {
        continue;
      }
      fail_with_errno("write", path_);
    }
    bytes += count;
    size -= static_cast<std::size_t>(count);
  }
}

void AtomicFile::skip(std::size_t size) {
  const off_t end = ::lseek(descriptor_, static_cast<off_t>(size), SEEK_CUR);
  if (end < 0 || ::ftruncate(descriptor_, end) != 0) {
    fail_with_errno("extend", path_);
  }
}

void AtomicFile::resize(std::size_t size) {
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

MappedFile::MappedFile(fs::path path) : path_(std::move(path)) {
  const Descriptor descriptor(path_, O_RDONLY);
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) {
    fail_with_errno("read the size of", path_);
  }
  require(S_ISREG(status.st_mode), path_.string(), " is not a file");
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) {
    return;
  }
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
  if (address == MAP_FAILED) {
    fail_with_errno("map", path_);
  }
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) {
    ::munmap(const_cast<std::byte*>(data_), size_);
  }
}

std::string xxh3_128(std::string_view bytes) {
  return hexadecimal(XXH3_128bits(bytes.data(), bytes.size()));
}

std::string xxh3_128_of_file(const fs::path& path) {
  const Descriptor descriptor(path, O_RDONLY);
  ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_SEQUENTIAL);  // reads further ahead
  std::vector<char> buffer(std::size_t{1} << 20);
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  while (const std::size_t count = read_some(descriptor, buffer.data(), buffer.size(), path)) {
    XXH3_128bits_update(&state, buffer.data(), count);
  }
  return hexadecimal(XXH3_128bits_digest(&state));
}

}  // namespace braid
