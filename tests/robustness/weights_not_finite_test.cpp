// Weights that are not finite: a run stops before it saves them and says how to go on, and whatever
// reads a model says so.
#include <cmath>
#include <filesystem>

#include <ATen/ATen.h>

#include "checkpoint/history.h"
#include "tests/commands/cli_test.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using namespace testing;

constexpr const char* kTensor = "layers.1.attn.wq_a.weight";

class WeightsNotFinite : public CliTest {
 protected:
  fs::path checkpoints() const { return config("run").run_dir() / "checkpoints"; }

  /// Gives the newest checkpoint a NaN, as versions of Braid that did not look saved it.
  fs::path poison_newest() const {
    const auto path = newest_checkpoint(config("run"));
    auto checkpoint = load_checkpoint(path);
    for (auto& [name, value] : checkpoint.tensors) {
      if (name == std::string("model/") + kTensor) {
        value = value.clone();
        value.view(-1)[3] = std::nan("");
      }
    }
    const auto yaml = read_file(path / "config.yaml");
    save_checkpoint(path, checkpoint, {{"config.yaml", yaml}});
    return path;
  }
};

std::string between(const std::string& whole, const std::string& before, const std::string& after) {
  const auto begin = whole.find(before) + before.size();
  return whole.substr(begin, whole.find(after, begin) - begin);
}

TEST_F(WeightsNotFinite, TheFirstSuchUpdateEndsTheRunAndTheAdviceGoesOn) {
  train_run({"--stop-at-step", "4"});
  const auto outcome = braid({"train", "run.yaml", "--set", "optimizer.learning_rate=1e39"});
  expect_error(outcome,
               {"step 5: the optimizer's update made layers.0.",
                " not finite",
                "without saving",
                "step-00000004; continue from it with a lower rate"});
  EXPECT_EQ(newest_checkpoint(config("run")).filename(), "step-00000004");
  EXPECT_EQ(metrics_but_timings(config("run")).back().at("step"), 4);

  const auto again = braid({"train",
                            between(outcome.err, "braid train ", " "),
                            "--resume",
                            between(outcome.err, "--resume ", " "),
                            "--set",
                            "optimizer.learning_rate=0.001"});
  EXPECT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(newest_checkpoint(config("run")).filename(), "step-00000006");
}

TEST_F(WeightsNotFinite, AShortRunDoesNotEndAsIfAllWereWell) {
  expect_error(braid({"train",
                      "run.yaml",
                      "--set",
                      "optimizer.learning_rate=1e39",
                      "--set",
                      "train.max_steps=1"}),
               {"step 1", "not finite", "--resume none"});
  EXPECT_TRUE(complete_checkpoints(checkpoints()).empty());
}

// Weights may be finite and yet compute nothing that is.
TEST_F(WeightsNotFinite, SkippedStepsDoNotPushOutTheLastSoundCheckpoint) {
  const std::vector<std::string> long_run = {"--set",
                                             "train.max_steps=40",
                                             "--set",
                                             "train.validate_every_steps=0",
                                             "--set",
                                             "checkpoint.every_steps=1",
                                             "--set",
                                             "stability.max_skipped_steps=2"};
  auto arguments = long_run;
  arguments.insert(arguments.end(), {"--stop-at-step", "4"});
  train_run(arguments);
  arguments = {"train", "run.yaml", "--set", "optimizer.learning_rate=1e30"};
  arguments.insert(arguments.end(), long_run.begin(), long_run.end());
  const auto outcome = braid(arguments);
  expect_error(outcome, {"3 steps in a row were not finite", "sound checkpoint is", "lower rate"});
  const fs::path sound = between(outcome.err, "sound checkpoint is ", ";");
  EXPECT_EQ(newest_checkpoint(config("run")), sound);
  EXPECT_TRUE(fs::exists(checkpoints() / "step-00000005.not-finite"));

  arguments[3] = "optimizer.learning_rate=0.001";
  arguments[5] = "train.max_steps=8";
  EXPECT_EQ(braid(arguments).status, 0);
}

TEST_F(WeightsNotFinite, ARunPassesOverSuchACheckpoint) {
  train_run({"--set", "checkpoint.keep_last=2", "--stop-at-step", "5"});
  const auto bad = poison_newest();
  const auto outcome = braid({"train", "run.yaml", "--set", "checkpoint.keep_last=2"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  expect_mentions(outcome.out, {"passing over", kTensor, "not finite", "continuing after step 4"});
  EXPECT_TRUE(fs::exists(bad.string() + ".damaged"));
}

TEST_F(WeightsNotFinite, EveryCommandThatReadsAModelNamesTheTensor) {
  train_run({"--stop-at-step", "1"});
  poison_newest();
  write("prompt.txt", "a");
  write("tune.yaml", dump_config(config("tune")));
  const std::vector<std::vector<std::string>> commands = {
      {"generate", "runs/run", "--prompt", "a"},
      {"evaluate", "runs/run", "--data", "prompt.txt"},
      {"convert", "runs/run", "out", "--to", "hf"},
      {"convert", "runs/run", "out", "--to", "checkpoint"},
      {"train", "run.yaml", "--resume", newest_checkpoint(config("run")).string()},
      {"train", "tune.yaml", "--set", "run.init_from=runs/run"}};
  for (const auto& command : commands) {
    SCOPED_TRACE(command.front());
    expect_error(braid(command), {kTensor, "1 of its 128 values are not finite"});
  }
  EXPECT_FALSE(fs::exists(folder_ / "out"));
}

}  // namespace
}  // namespace braid
