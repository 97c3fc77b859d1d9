// Bad input: a clear error with the place, and nothing lost.
#include <filesystem>
#include <fstream>
#include <map>

#include <unistd.h>

#include "tests/commands/cli_test.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;

class BadInput : public testing::CliTest {
 protected:
  /// The error of training what `yaml` makes of run.yaml.
  testing::Outcome trained(const std::string& yaml) const {
    write("bad.yaml", "base: run.yaml\n" + yaml);
    return braid({"train", "bad.yaml"});
  }

  /// Every file of the run but the log.
  std::map<std::string, std::string> contents() const {
    std::map<std::string, std::string> result;
    for (const auto& entry : fs::recursive_directory_iterator(folder_ / "runs/run")) {
      if (entry.is_regular_file() && entry.path().filename() != "log.txt") {
        result[entry.path().string()] = read_file(entry.path());
      }
    }
    return result;
  }
};

TEST_F(BadInput, KeysAreNamedWithFileAndLineAndTheRunStaysAsItWas) {
  train_run();
  const auto before = contents();
  expect_error(trained("model:\n  hidden_sise: 8\n"),
               {"model.hidden_sise", "bad.yaml:3", "hidden_size"});
  expect_error(trained("color: red\n"), {"color", "bad.yaml:2", "unknown"});
  expect_error(trained("train:\n  max_steps: 5\n  max_steps: 6\n"),
               {"duplicate", "max_steps", "bad.yaml:4"});
  expect_error(trained("train:\n  max_steps: soon\n"),
               {"train.max_steps", "bad.yaml:3", "whole number", "soon"});
  expect_error(trained("data:\n  seq_len: 1\n"), {"data.seq_len", "bad.yaml:3", "2"});
  expect_error(trained("model:\n  num_experts_per_tok: 9\n"),
               {"model.num_experts_per_tok", "bad.yaml:3", "9", "n_routed_experts"});
  expect_error(trained("model:\n  num_attention_heads: 3\n"),
               {"model.o_groups", "3", "num_attention_heads"});
  EXPECT_EQ(contents(), before);
}

TEST_F(BadInput, FilesThatCannotBeReadAreNamed) {
  train_run();
  const auto before = contents();
  write("empty.txt", " \n\n");
  fs::create_directory(folder_ / "folder");
  expect_error(braid({"train", "absent.yaml"}), {"absent.yaml", "No such file"});
  expect_error(braid({"train", "folder"}), {"folder", "directory"});
  expect_error(trained("data: {train: [absent.txt]}\n"), {"absent.txt", "no such file"});
  expect_error(trained("data: {train: [folder]}\n"), {"folder", "*.txt"});
  expect_error(trained("data: {train: [empty.txt]}\n"), {"empty.txt", "empty"});
  if (geteuid() != 0) {  // root may read anything
    fs::permissions(write("closed.txt", "text"), fs::perms::none);
    expect_error(trained("data: {train: [closed.txt]}\n"), {"closed.txt", "Permission denied"});
  }
  EXPECT_EQ(contents(), before);
}

TEST_F(BadInput, ADamagedCheckpointIsRefusedByEveryCommandAndNothingIsOverwritten) {
  train_run();
  const auto shard = testing::newest_checkpoint(config("run")) / "shard-00000-of-00001.h5";
  const auto sound = read_file(shard);
  const std::vector<std::string> continued = {"train", "run.yaml", "--set", "train.max_steps=8"};
  const std::string where = "step-00000006/shard-00000-of-00001.h5";

  fs::resize_file(shard, sound.size() / 2);
  auto before = contents();
  expect_error(braid(continued), {where, "bytes", "no checkpoint is whole"});
  expect_error(braid({"generate", "runs/run"}), {where, "no complete checkpoint"});
  EXPECT_EQ(contents(), before);

  auto altered = sound;
  altered[altered.size() / 2] ^= 1;
  std::ofstream(shard, std::ios::binary) << altered;
  before = contents();
  expect_error(braid(continued), {where, "damaged"});
  expect_error(braid({"generate", "runs/run"}), {where, "damaged"});
  EXPECT_EQ(contents(), before);
}

TEST_F(BadInput, AFullDiskKeepsTheLastCheckpointAndTheRunContinuesOnceThereIsRoom) {
  const std::vector<std::string> settings = {
      "--set", "schedule.kind=constant", "--set", "checkpoint.every_steps=2"};
  const auto with = [&](const std::string& name, int steps) {
    auto result = settings;
    for (const auto& setting : {"run.name=" + name, "train.max_steps=" + std::to_string(steps)}) {
      result.insert(result.end(), {"--set", setting});
    }
    return result;
  };
  train_run(with("whole", 8));
  train_run(with("run", 4));

  auto arguments = with("run", 8);
  arguments.insert(arguments.begin(), {"train", "run.yaml"});
  expect_error(braid(arguments, {.largest_file = 100'000}),
               {"cannot save the checkpoint", "step-00000006", "untouched"});
  EXPECT_EQ(testing::newest_checkpoint(config("run")).filename(), "step-00000004");

  train_run(with("run", 8));
  testing::expect_same_run(config("run"), config("whole"));
}

}  // namespace
}  // namespace braid
