#include "core/pages.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/core/fresh_folder.h"

namespace braid {
namespace {

// A file in a mapping, none of it in memory where the file system lets go of it.
class MappedFile : public ::testing::Test {
 protected:
  static constexpr std::size_t kSize = 1 << 20;

  void SetUp() override {
    const auto path = folder_ / "file";
    std::ofstream(path) << std::string(kSize, 'x');
    const int file = open(path.c_str(), O_RDONLY);
    fsync(file);
    posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    data_ = mmap(nullptr, kSize, PROT_READ, MAP_SHARED, file, 0);
    close(file);
  }
  void TearDown() override {
    munmap(data_, kSize);
    std::filesystem::remove_all(folder_);
  }

  // Pages of the file that are in memory.
  std::size_t resident() const {
    std::vector<unsigned char> pages(kSize / static_cast<std::size_t>(sysconf(_SC_PAGESIZE)));
    mincore(data_, kSize, pages.data());
    return static_cast<std::size_t>(
        std::ranges::count_if(pages, [](unsigned char page) { return (page & 1) != 0; }));
  }
  static std::size_t all() { return kSize / static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

  std::filesystem::path folder_ = testing::fresh_folder();
  void* data_ = nullptr;
};

TEST_F(MappedFile, ComesIntoMemoryInTheBackground) {
  if (resident() == all()) {
    GTEST_SKIP() << "this file system keeps files in memory";
  }
  const auto* bytes = static_cast<const char*>(data_);
  prefetch_in_background({{bytes, kSize / 2}, {bytes + kSize / 2, kSize / 2}});
  for (int i = 0; i < 1000 && resident() < all(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_EQ(resident(), all());
}

TEST_F(MappedFile, MayBeUnmappedBeforeItWasAskedFor) {
  std::vector<PageRange> ranges(1000, {data_, kSize});
  ranges.push_back({nullptr, 4096});
  prefetch_in_background(std::move(ranges));
  prefetch_in_background({});
}

TEST_F(MappedFile, IsReadAndLetGo) {
  read_pages(data_, kSize);
  EXPECT_EQ(resident(), all());
  release_mapped_pages(data_, kSize);
  EXPECT_EQ(static_cast<const char*>(data_)[kSize - 1], 'x');  // and comes back
}

}  // namespace
}  // namespace braid
