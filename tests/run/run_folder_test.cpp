#include "run/run_folder.h"

#include "core/file.h"
#include "parallel/communicator.h"
#include "tests/loading/corpus.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

class RunFolderTest : public testing::CorpusTest {
 protected:
  const fs::path path_ = folder_ / "runs/a";
  std::unique_ptr<Communicator> ranks_ = alone();
};

TEST_F(RunFolderTest, IsMadeAndHoldsConfigMetricsAndLog) {
  RunFolder folder(path_, *ranks_, /*start_again=*/false);
  EXPECT_FALSE(folder.paths().has_progress());
  folder.open_metrics(0);
  folder.write_metrics(1, "", {{"loss", 2.0}});
  folder.write_config({}, 0);
  folder.console().line("a line");
  EXPECT_TRUE(folder.paths().has_progress());
  EXPECT_EQ(read_file(path_ / "metrics.jsonl"), "{\"step\":1,\"loss\":2}\n");
  EXPECT_EQ(read_file(path_ / "config.yaml"), dump_config(RunConfig{}));
  EXPECT_EQ(read_file(path_ / "log.txt"), "a line\n");
}

TEST_F(RunFolderTest, BelongsToOneProcessAtATime) {
  const RunFolder first(path_, *ranks_, false);
  testing::expect_mentions(testing::error_of([&] { RunFolder(path_, *ranks_, false); }),
                           {path_.string(), "another process is training"});
}

TEST_F(RunFolderTest, StartingAgainMovesTheEarlierRunAsideButNotItsTokenStores) {
  for (int run = 0; run < 3; ++run) {
    RunFolder folder(path_, *ranks_, /*start_again=*/true);
    folder.open_metrics(0);
    folder.write_metrics(run, "", {});
    fs::create_directories(folder.paths().token_stores());
    fs::create_directories(folder.paths().checkpoints());
  }
  EXPECT_EQ(read_file(path_.string() + ".before-1/metrics.jsonl"), "{\"step\":0}\n");
  EXPECT_EQ(read_file(path_.string() + ".before-2/metrics.jsonl"), "{\"step\":1}\n");
  EXPECT_TRUE(fs::exists(path_.string() + ".before-2/checkpoints"));
  EXPECT_FALSE(fs::exists(path_.string() + ".before-2/data"));
  EXPECT_TRUE(fs::exists(path_ / "data"));
}

}  // namespace
}  // namespace braid
