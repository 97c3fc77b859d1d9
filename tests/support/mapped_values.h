#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <vector>

#include <ATen/ATen.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/core/fresh_folder.h"

namespace braid::testing {

/// A tensor's values in a file, mapped.
class MappedValues {
 public:
  explicit MappedValues(const at::Tensor& values) : size_(values.nbytes()) {
    const auto path = folder_ / "values";
    std::ofstream(path, std::ios::binary)
        .write(static_cast<const char*>(values.const_data_ptr()),
               static_cast<std::streamsize>(size_));
    std::FILE* file = std::fopen(path.c_str(), "rb");
    data_ = mmap(nullptr, size_, PROT_READ, MAP_SHARED, fileno(file), 0);
    std::fclose(file);
    tensor = at::from_blob(data_, values.sizes(), values.options());
  }
  ~MappedValues() {
    munmap(data_, size_);
    std::filesystem::remove_all(folder_);
  }
  MappedValues(const MappedValues&) = delete;
  MappedValues& operator=(const MappedValues&) = delete;

  /// Pages that the process has, or -1 where the system does not tell.
  int64_t pages() const {
    const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    std::vector<uint64_t> entries((size_ + page - 1) / page);
    const auto bytes = static_cast<ssize_t>(entries.size() * sizeof entries[0]);
    const int table = open("/proc/self/pagemap", O_RDONLY);
    const auto first = reinterpret_cast<std::uintptr_t>(data_) / page * sizeof entries[0];
    const bool told = pread(table, entries.data(), bytes, static_cast<off_t>(first)) == bytes;
    close(table);
    return told ? std::ranges::count_if(entries, [](uint64_t entry) { return entry >> 63 != 0; })
                : -1;
  }

  at::Tensor tensor;

 private:
  std::filesystem::path folder_ = fresh_folder();
  std::size_t size_;
  void* data_ = nullptr;
};

}  // namespace braid::testing
