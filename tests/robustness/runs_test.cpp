// braid runs, and runs whose folders were copied.
#include "tests/commands/cli_test.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;

class Runs : public testing::CliTest {};

TEST_F(Runs, AreListedWithWhatDiffers) {
  train_run({"--stop-at-step", "2"});
  train_run({"--set", "run.name=other", "--set", "optimizer.learning_rate=0.001"});
  const auto listed = braid({"runs"});
  ASSERT_EQ(listed.status, 0) << listed.err;
  testing::expect_mentions(listed.out,
                           {"runs/run",
                            "stopped",
                            "2/6",
                            "step-00000002",
                            "runs/other",
                            "finished",
                            "6/6",
                            "step-00000006",
                            "optimizer.learning_rate",
                            "0.001",
                            "KiB"});
  EXPECT_EQ(listed.out.find("data.seq_len"), std::string::npos);

  const auto json = nlohmann::json::parse(braid({"runs", "--sort", "step", "--json"}).out);
  ASSERT_EQ(json.at("runs").size(), 2u);
  EXPECT_EQ(json.at("runs")[0].at("name"), "other");
  EXPECT_TRUE(json.at("runs")[0].at("best_validation_loss").is_number());
  EXPECT_EQ(json.at("runs")[1].at("state"), "stopped");
  EXPECT_EQ(json.at("differences")[0].at("key"), "optimizer.learning_rate");
}

TEST_F(Runs, ThatCannotBeReadDoNotHideTheOthers) {
  train_run({"--stop-at-step", "1"});
  write("runs/broken/config.yaml", "run: {name\n");
  write("runs/broken/metrics.jsonl", "");
  const auto listed = braid({"runs"});
  EXPECT_EQ(listed.status, 0) << listed.err;
  testing::expect_mentions(
      listed.out, {"runs/broken", "unreadable", "problem: ", "config.yaml", "runs/run", "1/6"});
}

TEST_F(Runs, OfNowhereAreAnError) {
  expect_error(braid({"runs"}), {"runs: no such folder"});
  fs::create_directory(folder_ / "empty");
  testing::expect_mentions(braid({"runs", "empty"}).out, {"no runs"});
  EXPECT_EQ(braid({"runs", "empty", "--sort", "color"}).status, 2);
}

TEST_F(Runs, ACopiedRunContinuesInItsOwnFolder) {
  train_run({"--stop-at-step", "2"});
  fs::copy(folder_ / "runs/run", folder_ / "copy", fs::copy_options::recursive);
  const auto outcome = braid({"train", "copy/config.yaml", "--stop-at-step", "3"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  testing::expect_mentions(outcome.out, {"continuing after step 2", "run.name was run, is copy"});
  EXPECT_TRUE(fs::exists(folder_ / "copy/checkpoints/step-00000003"));
  EXPECT_FALSE(fs::exists(folder_ / "runs/run/checkpoints/step-00000003"));
}

}  // namespace
}  // namespace braid
