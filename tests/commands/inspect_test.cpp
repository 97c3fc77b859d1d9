// inspect and plan: what they print and how they end.
#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "tests/commands/cli_test.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using Inspect = testing::CliTest;
using PlanCommand = testing::CliTest;

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

TEST_F(PlanCommand, ShowsWhatWouldRunAndWritesNothing) {
  const auto outcome = braid({"plan", "run.yaml"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  testing::expect_mentions(
      outcome.out,
      {"shared_experts", "mtp", "stages", "newton schulz", "activations", "embed.weight", "adamw"});
  EXPECT_FALSE(fs::exists(folder_ / "runs"));
  // The estimate of time rests on a measurement.
  const auto but_time = [](const std::string& out) {
    const auto begin = out.find("\ntime, estimated\n"), end = out.find("\ngroups\n");
    EXPECT_TRUE(begin < end && end != std::string::npos) << out;
    return out.substr(0, begin) + out.substr(end);
  };
  EXPECT_EQ(but_time(braid({"train", "run.yaml", "--dry-run"}).out), but_time(outcome.out));
}

TEST_F(PlanCommand, TellsWhatEachOfManyRanksWouldDo) {
  const std::vector<std::string> command = {
      "plan", "run.yaml", "--ranks", "4", "--set", "parallel.expert=2"};
  const auto outcome = braid(command);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  testing::expect_mentions(outcome.out,
                           {"zero group", "imbalance", "expert exchange", "fullest rank"});
  auto as_json = command;
  as_json.push_back("--json");
  const auto plan = nlohmann::json::parse(braid(as_json).out);
  EXPECT_EQ(plan.at("ranks").at("expert"), 2);
  testing::expect_error(braid({"plan", "run.yaml", "--ranks", "3"}),
                        {"train.global_batch_size", "3 data-parallel ranks"});
}

TEST_F(PlanCommand, RefusesAConfigurationThatCannotTrain) {
  testing::expect_error(braid({"plan", "absent.yaml"}), {"absent.yaml"});
  testing::expect_error(braid({"plan", "run.yaml", "--set", "model.num_experts_per_tok=9"}),
                        {"model.num_experts_per_tok", "9"});
}

}  // namespace
}  // namespace braid
