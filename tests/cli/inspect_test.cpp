// inspect and train --dry-run: what they print and how they end.
#include <filesystem>
#include <fstream>

#include "tests/cli/cli_test.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using Inspect = testing::CliTest;
using DryRun = testing::CliTest;

TEST_F(Inspect, TellsWhatARunAndItsPartsHold) {
  train_run();
  const auto run = braid({"inspect", "runs/run"});
  EXPECT_EQ(run.status, 0) << run.err;
  testing::expect_mentions(run.out, {"kind", "run", "step-00000006", "train.tokens", "yes"});
  const auto checkpoint = braid({"inspect", "runs/run/checkpoints/step-00000006"});
  testing::expect_mentions(checkpoint.out, {"layers.1.ffn.experts.*.w1.weight", "totals"});
  const auto store =
      nlohmann::json::parse(braid({"inspect", "runs/run/data/train.tokens", "--json"}).out);
  EXPECT_EQ(store.at("kind"), "token store");
  EXPECT_GT(store.at("tokens"), 0);
}

TEST_F(Inspect, VerifyEndsWithALineAFileAndStatusOneIfOneIsBad) {
  train_run();
  const auto sound = braid({"inspect", "runs/run", "--verify"});
  EXPECT_EQ(sound.status, 0) << sound.err;
  EXPECT_TRUE(sound.out.ends_with("step-00000006/index.h5: ok\n")) << sound.out;

  const auto shard = testing::newest_checkpoint(config("run")) / "shard-00000-of-00001.h5";
  auto altered = read_file(shard);
  altered[altered.size() / 2] ^= 1;
  std::ofstream(shard, std::ios::binary) << altered;
  const auto damaged = braid({"inspect", "runs/run", "--verify"});
  testing::expect_error(damaged, {"runs/run", "1 of 8 files"});
  testing::expect_mentions(damaged.out,
                           {"shard-00000-of-00001.h5: differs from what was saved",
                            "metrics.jsonl: ok",
                            "step-00000006/COMPLETE: ok"});
  const auto as_json = braid({"inspect", "runs/run", "--verify", "--json"});
  EXPECT_EQ(as_json.status, 1);
  const auto facts = nlohmann::json::parse(as_json.out);
  int bad = 0;
  for (const auto& verdict : facts.at("verified")) {
    bad += !verdict.at("sound").get<bool>();
  }
  EXPECT_EQ(bad, 1);
  testing::expect_error(braid({"inspect", "runs/run/checkpoints/step-00000006"}),
                        {"shard-00000-of-00001.h5", "differs"});
}

TEST_F(Inspect, RefusesWhatItCannotRead) {
  testing::expect_error(braid({"inspect", "absent"}), {"absent", "no such file"});
  testing::expect_error(braid({"inspect", "run.yaml"}), {"run.yaml", "nothing to inspect"});
  testing::expect_error(braid({"inspect", "."}), {"nothing to inspect"});
  write("cut.safetensors", "short");
  testing::expect_error(braid({"inspect", "cut.safetensors"}), {"cut.safetensors"});
  testing::expect_error(braid({"inspect", "cut.safetensors", "--verify"}), {"1 of 1 files"});
}

TEST_F(DryRun, ShowsWhatWouldRunAndWritesNothing) {
  const auto outcome = braid({"train", "run.yaml", "--dry-run"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  testing::expect_mentions(
      outcome.out,
      {"shared_experts", "mtp", "stages", "newton schulz", "activations", "embed.weight", "adamw"});
  EXPECT_FALSE(fs::exists(folder_ / "runs"));
}

TEST_F(DryRun, RefusesAConfigurationThatCannotTrain) {
  testing::expect_error(braid({"train", "absent.yaml", "--dry-run"}), {"absent.yaml"});
  testing::expect_error(
      braid({"train", "run.yaml", "--dry-run", "--set", "model.num_experts_per_tok=9"}),
      {"model.num_experts_per_tok", "9"});
}

}  // namespace
}  // namespace braid
