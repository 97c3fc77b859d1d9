#include "core/file.h"

#include <cstring>
#include <filesystem>
#include <functional>
#include <string>

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

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

TEST_F(File, ReadsAnyPartAndNamesAFileThatIsCutShort) {
  write_file_atomically(folder_ / "a", "0123456789");
  const InputFile file(folder_ / "a");
  EXPECT_EQ(file.size(), 10u);
  std::string part(4, '\0');
  file.read_at(5, part.data(), part.size());
  EXPECT_EQ(part, "5678");
  fs::resize_file(folder_ / "a", 7);
  EXPECT_EQ(message_of([&] { file.read_at(5, part.data(), part.size()); }),
            (folder_ / "a").string() +
                ": has no byte 7 any more (it had 10 bytes when it was opened); it was cut short "
                "while it was in use");
}

TEST_F(File, AFifoIsRefusedWithoutWaitingForItsWriter) {
  ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  const std::string message = (folder_ / "pipe").string() + " is not a file";
  EXPECT_EQ(message_of([&] { InputFile file(folder_ / "pipe"); }), message);
  EXPECT_EQ(message_of([&] { MappedFile file(folder_ / "pipe"); }), message);
}

// In a process of its own, which ends.
TEST_F(File, AMappedFileThatIsCutShortEndsTheProcessWithItsName) {
  const auto path = folder_ / "a";
  write_file_atomically(path, std::string(100'000, 'x'));
  const auto read_what_is_gone = [&] {
    report_lost_pages();
    const MappedFile other(path), file(path);
    fs::resize_file(path, 10);
    const auto* bytes = reinterpret_cast<const volatile char*>(file.data());
    (void)bytes[50'000];
  };
  EXPECT_EXIT(read_what_is_gone(),
              ::testing::ExitedWithCode(1),
              "braid: " + path.string() + ": cannot be read any more; it was cut short");
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
