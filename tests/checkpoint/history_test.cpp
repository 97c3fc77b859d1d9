#include "checkpoint/history.h"

#include <filesystem>
#include <fstream>

#include <ATen/ATen.h>

#include "checkpoint/store.h"
#include "core/file.h"
#include "tests/checkpoint/support.h"

namespace braid {
namespace {

using namespace testing;
namespace fs = std::filesystem;

class History : public ::testing::Test {
 protected:
  fs::path step(int64_t number) const { return folder_ / checkpoint_folder_name(number); }
  void save(int64_t number) const {
    save_checkpoint(step(number), {{{"model/x", at::full({3}, number)}}, {{"step", number}}});
  }
  int64_t saved_step(const fs::path& path) const {
    return std::get<int64_t>(load_checkpoint(path).state.at("step"));
  }
  TemporaryFolder folder_;
};

TEST_F(History, FindsTheHighestStepWhateverTheTimeOfSaving) {
  EXPECT_EQ(newest_complete_checkpoint(folder_.path()), std::nullopt);
  EXPECT_EQ(newest_complete_checkpoint(folder_ / "none"), std::nullopt);
  for (const int64_t number : {20, 123'456'789, 3}) {
    save(number);
  }
  EXPECT_EQ(newest_complete_checkpoint(folder_.path()), step(123'456'789));
}

TEST_F(History, SkipsIncompleteCheckpointsAndSaysWhy) {
  for (const int64_t number : {1, 2, 3, 4}) {
    save(number);
  }
  fs::remove(step(4) / "COMPLETE");
  fs::resize_file(step(3) / "index.h5", 10);
  fs::copy(step(2), step(9).string() + ".tmp");
  std::ofstream(folder_ / "step-00000010") << "a file";
  std::vector<std::string> skipped;
  EXPECT_EQ(newest_complete_checkpoint(folder_.path(), &skipped), step(2));
  ASSERT_EQ(skipped.size(), 2u);
  EXPECT_TRUE(contains(skipped[0], "step-00000004 has no file COMPLETE")) << skipped[0];
  EXPECT_TRUE(contains(skipped[1], "step-00000003/index.h5 has 10 bytes")) << skipped[1];
}

TEST_F(History, SavingRemovesWhatAKilledRunLeft) {
  save(1);
  fs::copy(step(1), step(2).string() + ".tmp");
  fs::create_directory(folder_ / "notes.tmp");
  EXPECT_EQ(newest_complete_checkpoint(folder_.path()), step(1));
  save(3);
  EXPECT_FALSE(fs::exists(step(2).string() + ".tmp"));
  EXPECT_TRUE(fs::exists(folder_ / "notes.tmp"));
}

TEST_F(History, RestoresACheckpointWhoseReplacementWasInterrupted) {
  save(1);
  fs::rename(step(1), step(1).string() + ".old");
  save(2);
  EXPECT_EQ(saved_step(step(1)), 1);
  fs::copy(step(1), step(1).string() + ".old");
  save(3);
  EXPECT_FALSE(fs::exists(step(1).string() + ".old"));
  EXPECT_EQ(saved_step(step(1)), 1);
}

TEST_F(History, PruningKeepsTheNewestCompleteOnesAndWhateverIsIncomplete) {
  for (const int64_t number : {1, 2, 3, 4, 5}) {
    save(number);
  }
  fs::remove(step(5) / "COMPLETE");
  fs::remove(step(1) / "COMPLETE");
  EXPECT_EQ(prune_checkpoints(folder_.path(), 2), std::vector<fs::path>{step(2)});
  for (const int64_t number : {1, 3, 4, 5}) {
    EXPECT_TRUE(fs::exists(step(number))) << number;
  }
  EXPECT_FALSE(fs::exists(step(2)));
  EXPECT_THROW(prune_checkpoints(folder_.path(), 0), Error);
}

TEST_F(History, TheLinkToTheBestFollowsItAndGoesWithIt) {
  save(1);
  save(2);
  link_best(folder_.path(), 1);
  EXPECT_EQ(saved_step(folder_ / "best"), 1);
  link_best(folder_.path(), 2);
  EXPECT_EQ(saved_step(folder_ / "best"), 2);
  EXPECT_EQ(complete_checkpoints(folder_.path()).size(), 2u);
  link_best(folder_.path(), 3);  // not there
  EXPECT_FALSE(fs::is_symlink(folder_ / "best"));
  write_file_atomically(folder_ / "best", "a person's file");
  link_best(folder_.path(), std::nullopt);
  EXPECT_TRUE(contains(error_of([&] { link_best(folder_.path(), 2); }), "in the way"));
  EXPECT_EQ(read_file(folder_ / "best"), "a person's file");
}

TEST_F(History, PruningKeepsTheStepsThatAreNamed) {
  for (const int64_t number : {1, 2, 3, 4, 5}) {
    save(number);
  }
  prune_checkpoints(folder_.path(), 1, 0, {2, 3, 99});
  EXPECT_EQ(complete_checkpoints(folder_.path()),
            (std::vector<fs::path>{step(5), step(3), step(2)}));
}

}  // namespace
}  // namespace braid
