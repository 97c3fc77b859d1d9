#include "checkpoint/hdf5_driver.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <iterator>

#include <fcntl.h>
#include <unistd.h>

#include "core/error.h"

namespace braid {
namespace {

struct DriverInfo {
  int* first_error;
};

constexpr size_t kBurst = size_t{32} << 20;  // bytes
constexpr size_t kPiece = size_t{4} << 20;  // of one call: where zeros begin is looked at behind it
constexpr size_t kShortestHole = size_t{64} << 10;

struct RememberingFile {
  H5FD_t base;  // must come first: HDF5 sees only this part
  int descriptor;
  int* first_error;
  haddr_t end_allocated;  // what HDF5 calls eoa
  haddr_t end_written;    // what HDF5 calls eof
  size_t not_started;     // bytes written since the last request to start write-back
  bool has_holes;         // zeros were not written, so that the file may be shorter than it should
};

RememberingFile& ours(const H5FD_t* file) {
  return *reinterpret_cast<RememberingFile*>(const_cast<H5FD_t*>(file));
}

bool has_failed(const RememberingFile& file) {
  return *file.first_error != 0;
}

void remember_unless(bool good, RememberingFile& file) {
  if (!good && !has_failed(file)) {
    *file.first_error = errno;
  }
}

H5FD_t* open_file(const char* name, unsigned flags, hid_t access_properties, haddr_t) {
  const int mode = ((flags & H5F_ACC_RDWR) != 0 ? O_RDWR : O_RDONLY) |
                   ((flags & H5F_ACC_TRUNC) != 0 ? O_TRUNC : 0) |
                   ((flags & H5F_ACC_CREAT) != 0 ? O_CREAT : 0) |
                   ((flags & H5F_ACC_EXCL) != 0 ? O_EXCL : 0);
  const int descriptor = ::open(name, mode | O_CLOEXEC, 0666);
  if (descriptor < 0) {
    return nullptr;
  }
  auto* file = new RememberingFile{};
  file->descriptor = descriptor;
  file->first_error =
      static_cast<const DriverInfo*>(H5Pget_driver_info(access_properties))->first_error;
  file->end_written = static_cast<haddr_t>(std::max<off_t>(0, ::lseek(descriptor, 0, SEEK_END)));
  return &file->base;
}

herr_t close_file(H5FD_t* base) {
  RememberingFile& file = ours(base);
  remember_unless(::close(file.descriptor) == 0, file);
  delete &file;
  return 0;
}

herr_t query(const H5FD_t*, unsigned long* flags) {
  *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE |
           H5FD_FEAT_AGGREGATE_SMALLDATA | H5FD_FEAT_DEFAULT_VFD_COMPATIBLE;
  return 0;
}

haddr_t get_end_allocated(const H5FD_t* file, H5FD_mem_t) {
  return ours(file).end_allocated;
}

herr_t set_end_allocated(H5FD_t* file, H5FD_mem_t, haddr_t address) {
  ours(file).end_allocated = address;
  return 0;
}

haddr_t get_end_written(const H5FD_t* file, H5FD_mem_t) {
  return ours(file).end_written;
}

herr_t read_bytes(H5FD_t* base, H5FD_mem_t, hid_t, haddr_t address, size_t size, void* buffer) {
  auto* bytes = static_cast<char*>(buffer);
  while (size > 0) {
    const ssize_t count = ::pread(ours(base).descriptor, bytes, size, static_cast<off_t>(address));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return -1;
    }
    if (count == 0) {
      std::memset(bytes, 0, size);  // beyond the end of the file, as HDF5's own driver does
      break;
    }
    bytes += count;
    address += static_cast<haddr_t>(count);
    size -= static_cast<size_t>(count);
  }
  return 0;
}

size_t leading_zeros(const char* bytes, size_t size) {
  const auto* end = bytes + size;
  return static_cast<size_t>(std::find_if(bytes, end, [](char byte) { return byte != 0; }) - bytes);
}

// Whether the file has no data there, so that it reads as zeros. False where the file system cannot
// tell.
bool is_hole(const RememberingFile& file, haddr_t address, size_t size) {
  const off_t data = ::lseek(file.descriptor, static_cast<off_t>(address), SEEK_DATA);
  return data < 0 ? errno == ENXIO : static_cast<haddr_t>(data) >= address + size;
}

herr_t write_bytes(
    H5FD_t* base, H5FD_mem_t, hid_t, haddr_t address, size_t size, const void* buffer) {
  RememberingFile& file = ours(base);
  file.end_written = std::max(file.end_written, address + size);
  const auto* bytes = static_cast<const char*>(buffer);
  while (size > 0 && !has_failed(file)) {
    // Long zeros, such as those of a sparse file, stay a hole.
    if (const size_t zeros = leading_zeros(bytes, size);
        zeros >= kShortestHole && is_hole(file, address, zeros)) {
      file.has_holes = true;
      bytes += zeros;
      address += static_cast<haddr_t>(zeros);
      size -= zeros;
      continue;
    }
    const ssize_t count =
        ::pwrite(file.descriptor, bytes, std::min(size, kPiece), static_cast<off_t>(address));
    if (count < 0) {
      remember_unless(errno == EINTR, file);
      continue;
    }
    file.not_started += static_cast<size_t>(count);
    if (file.not_started >= kBurst) {
      // Write-back starts now rather than at the final fsync(), which reports any error.
      ::sync_file_range(file.descriptor, 0, 0, SYNC_FILE_RANGE_WRITE);
      file.not_started = 0;
    }
    bytes += count;
    address += static_cast<haddr_t>(count);
    size -= static_cast<size_t>(count);
  }
  return 0;
}

herr_t truncate_file(H5FD_t* base, hid_t, hbool_t) {
  RememberingFile& file = ours(base);
  if (!has_failed(file) && (file.has_holes || file.end_allocated != file.end_written)) {
    remember_unless(::ftruncate(file.descriptor, static_cast<off_t>(file.end_allocated)) == 0,
                    file);
  }
  file.end_written = file.end_allocated;
  return 0;
}

hid_t registered_driver() {
  static const hid_t driver = [] {
    static H5FD_class_t functions{};
    functions.name = "braid_remembering";
    functions.maxaddr = static_cast<haddr_t>(INT64_MAX);
    functions.fc_degree = H5F_CLOSE_WEAK;
    functions.fapl_size = sizeof(DriverInfo);
    functions.open = open_file;
    functions.close = close_file;
    functions.query = query;
    functions.get_eoa = get_end_allocated;
    functions.set_eoa = set_end_allocated;
    functions.get_eof = get_end_written;
    functions.read = read_bytes;
    functions.write = write_bytes;
    functions.truncate = truncate_file;
    constexpr H5FD_mem_t kMap[H5FD_MEM_NTYPES] = H5FD_FLMAP_DICHOTOMY;
    std::copy(std::begin(kMap), std::end(kMap), functions.fl_map);
    return H5FDregister(&functions);
  }();
  return driver;
}

}  // namespace

void use_remembering_driver(hid_t access_properties, int* first_error) {
  const DriverInfo info{first_error};
  require(
      registered_driver() >= 0 && H5Pset_driver(access_properties, registered_driver(), &info) >= 0,
      "HDF5 refuses Braid's file driver; Braid needs HDF5 1.10");
}

}  // namespace braid
