#include "core/file.h"

#include <cstring>
#include <filesystem>
#include <functional>
#include <string>

#include <gtest/gtest.h>
#include <stdlib.h>

#include "core/error.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

class File : public ::testing::Test {
 protected:
  File() {
    std::string name = (fs::temp_directory_path() / "braid-test-XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~File() override { fs::remove_all(folder_); }
  std::string message_of(const std::function<void()>& function) const {
    try {
      function();
    } catch (const Error& error) {
      return error.what();
    }
    return "no Error";
  }
  fs::path folder_;
};

TEST_F(File, AtomicFileReplacesOnlyWhenCommitted) {
  const auto path = folder_ / "a";
  write_file_atomically(path, "old");
  {
    AtomicFile file(path);
    file.write("new, unfinished");
    EXPECT_EQ(read_file(path), "old");
  }
  EXPECT_EQ(read_file(path), "old");
  EXPECT_FALSE(fs::exists(path.string() + ".braid.tmp"));
  AtomicFile file(path);
  file.write("new ");
  file.write(std::string(1'000'000, 'x'));
  file.commit();
  EXPECT_EQ(read_file(path), "new " + std::string(1'000'000, 'x'));
  EXPECT_FALSE(fs::exists(path.string() + ".braid.tmp"));
}

TEST_F(File, ErrorsNameThePathAndTheReason) {
  const auto path = folder_ / "none" / "a";
  const std::string reason = "No such file or directory";
  EXPECT_EQ(message_of([&] { read_file(path); }), "cannot open " + path.string() + ": " + reason);
  EXPECT_EQ(message_of([&] { MappedFile file(path); }),
            "cannot open " + path.string() + ": " + reason);
  EXPECT_EQ(message_of([&] { write_file_atomically(path, "x"); }),
            "cannot create " + path.string() + ".braid.tmp: " + reason);
  EXPECT_EQ(message_of([&] { read_file(folder_); }),
            "cannot read " + folder_.string() + ": Is a directory");
  EXPECT_EQ(message_of([&] { MappedFile file(folder_); }), folder_.string() + " is not a file");
}

TEST_F(File, MapsContents) {
  write_file_atomically(folder_ / "a", std::string("a\0b", 3));
  const MappedFile file(folder_ / "a");
  ASSERT_EQ(file.size(), 3u);
  EXPECT_EQ(std::memcmp(file.data(), "a\0b", 3), 0);
  write_file_atomically(folder_ / "empty", "");
  EXPECT_EQ(MappedFile(folder_ / "empty").size(), 0u);
}

TEST_F(File, DigestsAreXxh3Of128Bits) {
  // Published values of XXH3_128bits with seed 0: `xxhsum -H2` prints the same.
  EXPECT_EQ(xxh3_128(""), "99aa06d3014798d86001c324468d497f");
  const std::string large(3'000'001, 'q');
  write_file_atomically(folder_ / "a", large);
  EXPECT_EQ(xxh3_128_of_file(folder_ / "a"), xxh3_128(large));
  write_file_atomically(folder_ / "a", large.substr(1) + "r");
  EXPECT_NE(xxh3_128_of_file(folder_ / "a"), xxh3_128(large));
}

}  // namespace
}  // namespace braid
