#include "core/output_place.h"

#include <cstring>
#include <fstream>
#include <functional>
#include <future>
#include <string>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/error.h"
#include "core/file.h"
#include "core/own_folder.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no Error";
}

void expect_mentions(const std::string& message, const std::vector<std::string>& parts) {
  for (const auto& part : parts) {
    EXPECT_NE(message.find(part), std::string::npos) << message << " / " << part;
  }
}

class Outputs : public ::testing::Test {
 protected:
  Outputs() {
    std::string name = (fs::temp_directory_path() / "braid-test-XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~Outputs() override { fs::remove_all(folder_); }
  fs::path write(const std::string& name, const std::string& contents) const {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name) << contents;
    return folder_ / name;
  }
  fs::path folder_;
};

class OutputPlaceTest : public Outputs {
 protected:
  void expect_refused(const fs::path& path, const std::vector<std::string>& parts) const {
    expect_mentions(error_of([&] { output_place(path); }), parts);
    expect_mentions(error_of([&] { write_file_atomically(path, "x"); }), parts);
  }
};

TEST_F(OutputPlaceTest, LinksStayAndTheirTargetsAreReplaced) {
  write("there/target", "old");
  fs::create_symlink("there/target", folder_ / "link");
  fs::create_symlink("link", folder_ / "further");
  fs::create_symlink(folder_ / "there/new", folder_ / "dangling");
  write_file_atomically(folder_ / "further", "new");
  write_file_atomically(folder_ / "dangling", "made");
  for (const char* link : {"link", "further", "dangling"}) {
    EXPECT_TRUE(fs::is_symlink(folder_ / link)) << link;
  }
  EXPECT_EQ(read_file(folder_ / "there/target"), "new");
  EXPECT_EQ(read_file(folder_ / "there/new"), "made");
  EXPECT_FALSE(fs::is_symlink(folder_ / "there/target"));
}

TEST_F(OutputPlaceTest, DevicesAndFifosAreWrittenThrough) {
  write_file_atomically("/dev/null", "x");
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
  expect_mentions(error_of([] { write_file_atomically("/dev/full", "x"); }),
                  {"/dev/full", "No space left"});

  const auto fifo = folder_ / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  fs::create_symlink("fifo", folder_ / "link");
  auto reader = std::async(std::launch::async, [&] { return read_file(fifo); });
  AtomicFile file(folder_ / "link");  // waits for the reader
  file.write("a");
  file.skip(3);
  file.write("b");
  file.commit();
  EXPECT_EQ(reader.get(), std::string("a\0\0\0b", 5));
  EXPECT_TRUE(fs::is_fifo(fifo));
}

TEST_F(OutputPlaceTest, OwnDescriptorsAreWrittenWhereTheyStand) {
  const auto path = folder_ / "collected";
  const int descriptor = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  ASSERT_EQ(::write(descriptor, "before ", 7), 7);
  for (const std::string folder : {"/dev/fd/", "/proc/self/fd/"}) {
    write_file_atomically(folder + std::to_string(descriptor), "x");
  }
  ::close(descriptor);
  EXPECT_EQ(read_file(path), "before xx");
}

TEST_F(OutputPlaceTest, WhatIsNoFileIsRefusedWithAReason) {
  expect_refused(folder_, {folder_.string(), "is a folder"});
  fs::create_symlink("b", folder_ / "a");
  fs::create_symlink("a", folder_ / "b");
  expect_refused(folder_ / "a", {"circle"});
  const auto path = folder_ / "s";
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  const int bound = ::socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(::bind(bound, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  expect_refused(path, {path.string(), "is a socket"});
  ::close(bound);
  EXPECT_TRUE(fs::is_socket(path));
  require_file_or_absent(folder_ / "absent");
  expect_mentions(error_of([&] { require_file_or_absent(path); }), {"no regular file"});
}

TEST_F(OutputPlaceTest, PermissionsOfTheReplacedFileStay) {
  const auto path = write("a", "old");
  fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write);
  write_file_atomically(path, "new");
  EXPECT_EQ(fs::status(path).permissions(), fs::perms::owner_read | fs::perms::owner_write);
}

TEST_F(OutputPlaceTest, OthersTemporaryFilesAreNotTouched) {
  write("a.tmp", "someone's");
  const auto target = write("elsewhere", "someone's");
  fs::create_symlink(target, folder_ / "a.braid.tmp");
  write_file_atomically(folder_ / "a", "x");
  EXPECT_EQ(read_file(folder_ / "a.tmp"), "someone's");
  EXPECT_EQ(read_file(target), "someone's");
}

TEST_F(OutputPlaceTest, InputsAreNeverOutputs) {
  const auto model = folder_ / "model", elsewhere = write("blobs/1", "weights");
  const auto file = write("model/config.json", "{}"), input = write("input", "");
  fs::create_symlink(elsewhere, model / "model.safetensors");
  fs::create_symlink(input, folder_ / "to-input");
  fs::create_hard_link(input, folder_ / "same-as-input");
  fs::create_directory_symlink(model, folder_ / "to-model");
  for (const char* output : {"input",
                             "to-input",
                             "same-as-input",
                             "model/config.json",
                             "model/new",
                             "to-model/new",
                             "blobs/1"}) {
    const auto path = folder_ / output;
    expect_mentions(error_of([&] {
                      require_not_an_input(path, {input, model});
                    }),
                    {path.string(), "reads"});
  }
  for (const char* output : {"new", "model.new", "blobs/2"}) {
    require_not_an_input(folder_ / output, {input, model, folder_ / "absent", ""});
  }
}

class OwnFolder : public Outputs {};

TEST_F(OwnFolder, IsMadeOrEmptyOrMarkedOrRecognized) {
  for (const char* name : {"a/b", "empty"}) {
    const auto folder = folder_ / name;
    if (name == std::string("empty")) {
      fs::create_directory(folder);
    }
    make_own_folder(folder, "");
    EXPECT_TRUE(is_own_folder(folder));
    write(std::string(name) + "/more", "");
    make_own_folder(folder, "");
  }
  write("theirs/notes", "");
  const auto theirs = folder_ / "theirs";
  write("begun/.braid.braid.tmp", "");  // killed while the marker was written
  make_own_folder(folder_ / "begun", "");
  EXPECT_TRUE(is_own_folder(folder_ / "begun"));
  expect_mentions(error_of([&] { make_own_folder(theirs, "choose another run.name"); }),
                  {theirs.string(), "notes", "choose another run.name", ".braid"});
  EXPECT_FALSE(is_own_folder(theirs));
  make_own_folder(theirs, "", /*recognized=*/true);
  EXPECT_TRUE(is_own_folder(theirs));
  write("file", "");
  expect_mentions(error_of([&] { make_own_folder(folder_ / "file", ""); }), {"cannot be made"});
}

TEST_F(OwnFolder, GrowsBesideItsPlaceAndReplacesNothing) {
  const auto path = folder_ / "out";
  {
    GrowingFolder growing(path, "busy");
    write("out.partial/a", "1");
    expect_mentions(error_of([&] { GrowingFolder(path, "busy"); }), {"busy"});
    EXPECT_FALSE(fs::exists(path));
  }
  GrowingFolder again(path, "busy");
  EXPECT_TRUE(fs::exists(folder_ / "out.partial/a"));
  again.clear();
  EXPECT_FALSE(fs::exists(folder_ / "out.partial/a"));
  write("out.partial/b", "2");
  again.commit();
  EXPECT_EQ(std::distance(fs::directory_iterator(path), {}), 1);
  EXPECT_EQ(read_file(path / "b"), "2");
  expect_mentions(error_of([&] { GrowingFolder(path, "busy"); }), {"exists already"});
  fs::create_symlink("nowhere", folder_ / "link");
  expect_mentions(error_of([&] { GrowingFolder(folder_ / "link", ""); }), {"exists already"});
  write("other.partial/precious", "");
  expect_mentions(error_of([&] { GrowingFolder(folder_ / "other", ""); }),
                  {"other.partial", "precious"});
  EXPECT_TRUE(fs::exists(folder_ / "other.partial/precious"));
}

}  // namespace
}  // namespace braid
