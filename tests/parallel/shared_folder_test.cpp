#include "run/shared_folder.h"

#include <filesystem>

#include <gtest/gtest.h>
#include <unistd.h>

#include "core/temporary_folder.h"
#include "tests/parallel/ranks.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using testing::ranks;

// A folder name that all ranks agree on.
fs::path common_path(const char* name) {
  return ranks().from_first(
      (fs::temp_directory_path() / text("braid-", ::getpid(), "-", name)).string(), "a name");
}

TEST(SharedFolder, IsOneThatAllRanksSee) {
  const auto path = common_path("shared");
  fs::create_directories(path);
  const TemporaryFolder folder(path);
  require_shared_folder(path, ranks());
  ranks().barrier("the end of the check");
  EXPECT_TRUE(fs::is_empty(path)) << "the check leaves a file";
  ranks().barrier("the look at it");  // before any rank removes the folder
}

TEST(SharedFolder, ThatIsAnotherOneOnSomeRankIsRefusedOnAll) {
  const fs::path path = text(common_path("own").string(), "-", ranks().rank());
  fs::create_directories(path);
  const TemporaryFolder folder(path);
  std::string message;
  try {
    require_shared_folder(path, ranks(), /*seconds=*/0.05);
  } catch (const Error& error) {
    message = error.what();
  }
  EXPECT_EQ(message.empty(), ranks().size() == 1) << message;
  if (ranks().size() > 1) {
    EXPECT_NE(message.find("(rank 1) this is not the folder that rank 0 has"), std::string::npos)
        << message;
    EXPECT_NE(message.find("run.output_dir"), std::string::npos) << message;
  }
  EXPECT_TRUE(fs::is_empty(path));
}

}  // namespace
}  // namespace braid
