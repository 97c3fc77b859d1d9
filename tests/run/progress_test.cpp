#include "run/progress.h"

#include <cstdlib>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace braid {
namespace {

TEST(Progress, OnlyATerminalThatIsNotDumbHasLinesRewritten) {
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
  ASSERT_GE(terminal, 0);
  ASSERT_EQ(grantpt(terminal) | unlockpt(terminal), 0);
  const int user = open(ptsname(terminal), O_RDWR | O_NOCTTY);
  ASSERT_GE(user, 0);
  const int file = open("/dev/null", O_WRONLY);
  setenv("TERM", "xterm", 1);
  EXPECT_TRUE(is_smart_terminal(user));
  EXPECT_FALSE(is_smart_terminal(file));
  setenv("TERM", "dumb", 1);
  EXPECT_FALSE(is_smart_terminal(user));
  unsetenv("TERM");
  EXPECT_FALSE(is_smart_terminal(user));
  close(file);
  close(user);
  close(terminal);
}

}  // namespace
}  // namespace braid
