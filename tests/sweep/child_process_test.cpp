#include "sweep/child_process.h"

#include <chrono>
#include <csignal>
#include <thread>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/error.h"
#include "core/file.h"
#include "tests/core/fresh_folder.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

class ChildProcessTest : public ::testing::Test {
 protected:
  ~ChildProcessTest() override { fs::remove_all(folder_); }

  /// Whether the output comes to hold this, within a time that no load of the machine exceeds.
  bool says(const std::string& words) const {
    for (int i = 0; i < 6000; ++i) {
      if (fs::exists(output_) && read_file(output_).find(words) != std::string::npos) {
        return true;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

  static int status_of(ChildProcess& child) {
    while (true) {
      if (const auto status = child.poll()) {
        return *status;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

  static std::vector<std::string> shell(const std::string& script) {
    return {"/bin/sh", "-c", script};
  }

  fs::path folder_ = testing::fresh_folder();
  fs::path output_ = folder_ / "output.txt";
};

constexpr const char* kUntilStopped =
    "trap 'echo stopped; exit 7' TERM; echo started; while :; do sleep 0.02; done";

TEST_F(ChildProcessTest, ItsOutputIsAddedToTheFile) {
  for (const auto* words : {"one", "two"}) {
    ChildProcess child(shell(std::string("echo ") + words + " >&2; exit 3"), output_, SIGTERM);
    EXPECT_EQ(status_of(child), 3);
    EXPECT_EQ(child.poll(), std::nullopt);
  }
  EXPECT_EQ(read_file(output_), "one\ntwo\n");
}

TEST_F(ChildProcessTest, ItIsAskedToStopByItsSignal) {
  ChildProcess child(shell(kUntilStopped), output_, SIGTERM);
  ASSERT_TRUE(says("started"));
  child.ask_to_stop();
  EXPECT_EQ(status_of(child), 7);
}

TEST_F(ChildProcessTest, TheSignalThatEndedItIsItsStatus) {
  ChildProcess child(shell("kill -9 $$"), output_, SIGTERM);
  EXPECT_EQ(status_of(child), 128 + SIGKILL);
}

TEST_F(ChildProcessTest, ItIsAskedToStopWhenItsParentIsKilled) {
  const pid_t parent = fork();
  if (parent == 0) {
    const ChildProcess child(shell(kUntilStopped), output_, SIGTERM);
    ::pause();  // until the test kills it
    ::_exit(0);
  }
  EXPECT_TRUE(says("started"));
  ::kill(parent, SIGKILL);
  ::waitpid(parent, nullptr, 0);
  EXPECT_TRUE(says("stopped"));
}

TEST_F(ChildProcessTest, AProgramThatIsNotThereIsAnError) {
  try {
    const ChildProcess child({(folder_ / "nothing").string()}, output_, SIGTERM);
    FAIL() << "it was started";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("nothing: cannot be started: No such file"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace braid
