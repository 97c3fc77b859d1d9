#include "core/folder_lock.h"

#include <cerrno>

#include <gtest/gtest.h>
#include <sys/file.h>

#include "core/error.h"
#include "core/temporary_folder.h"
#include "tests/core/fresh_folder.h"

namespace braid {
namespace {

FolderLock::Lock failing_with(int error) {
  return [error](int, int) {
    errno = error;
    return -1;
  };
}

TEST(FolderLock, IsHeldByOneOnly) {
  const TemporaryFolder folder(testing::fresh_folder());
  {
    const FolderLock first(folder.path(), "busy");
    EXPECT_EQ(first.warning(), "");
    try {
      const FolderLock second(folder.path(), "busy");
      FAIL() << "two hold it";
    } catch (const Error& error) {
      EXPECT_EQ(error.what(), folder.path().string() + ": busy");
    }
  }
  EXPECT_EQ(FolderLock(folder.path(), "busy").warning(), "");
}

TEST(FolderLock, WhereTheFileSystemKeepsNoLocksWarnsAndGoesOn) {
  const TemporaryFolder folder(testing::fresh_folder());
  for (const int error : {ENOLCK, ENOTSUP, ENOSYS, EBADF, EINVAL}) {
    const FolderLock lock(folder.path(), "busy", failing_with(error));
    EXPECT_NE(lock.warning().find("keeps no locks"), std::string::npos) << error;
    EXPECT_EQ(lock.warning().find("busy"), std::string::npos) << error;
  }
  EXPECT_THROW(FolderLock(folder.path(), "busy", failing_with(EWOULDBLOCK)), Error);
}

TEST(FolderLock, TriesAgainAfterASignal) {
  const TemporaryFolder folder(testing::fresh_folder());
  int calls = 0;
  const FolderLock lock(folder.path(), "busy", [&](int descriptor, int operation) {
    errno = EINTR;
    return ++calls < 3 ? -1 : ::flock(descriptor, operation);
  });
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(lock.warning(), "");
}

}  // namespace
}  // namespace braid
