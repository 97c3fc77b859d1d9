// Fine-tuning with frozen floating-point weights: they stay in the model that the run began with,
// and its checkpoints hold the rest.
#include <algorithm>
#include <filesystem>
#include <set>

#include "checkpoint/store.h"
#include "core/file.h"
#include "formats/convert.h"
#include "formats/inspect.h"
#include "formats/open_model.h"
#include "inference/probe.h"
#include "plan/plan.h"
#include "tests/support/compare.h"
#include "tests/train/tiny_run.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using namespace testing;

class FrozenFloat : public TinyRun {
 protected:
  FrozenFloat() {
    train(config("base"));
    base_ = fs::absolute(folder_ / "base.checkpoint");
    convert(config("base").run_dir(), base_, {.to = ConvertTo::kCheckpoint, .progress = {}});
  }

  /// Experts, attention and the embedding are frozen, and so are the indexers, which have no loss.
  RunConfig tuned(const std::string& name) const {
    auto run = config(name);
    run.run.init_from = base_.string();
    for (const char* frozen : {"*ffn.experts.*", "*.attn.w*", "embed.weight"}) {
      run.optimizer.groups.push_back({.match = frozen, .optimizer = OptimizerKind::kNone});
    }
    return run;
  }

  static std::set<std::string> names_in(const RunConfig& run) {
    std::set<std::string> names;
    for (const auto& weight : weights_in(load_checkpoint(newest_checkpoint(run)))) {
      names.insert(weight.name);
    }
    return names;
  }

  static at::Tensor logits(const fs::path& path) {
    return probe(*open_model(path, at::kFloat).model, at::arange(20).view({1, 20}), {}, {})
        .front()
        .value;
  }

  static at::Tensor value_in(const fs::path& checkpoint, const std::string& name) {
    return read_model(checkpoint).weights.at(name).values.clone();
  }

  /// Opening, resuming, converting and verifying all say so.
  void expect_error_everywhere(const RunConfig& run, const std::vector<std::string>& parts) {
    expect_mentions(error_of([&] { open_model(run.run_dir(), at::kFloat); }), parts);
    expect_mentions(error_of([&] { train(run); }), parts);
    expect_mentions(error_of([&] { convert(run.run_dir(), folder_ / "converted", {}); }), parts);
    std::string problems;
    for (const auto& verdict : inspect(run.run_dir(), /*verify=*/true).verdicts) {
      problems += verdict.problem;
    }
    expect_mentions(problems, parts);
  }

  fs::path base_;
};

TEST_F(FrozenFloat, IsLeftOutOfCheckpointsAndResumedBitForBit) {
  const auto whole = tuned("whole"), stopped = tuned("stopped");
  const auto trained = train(whole);
  expect_mentions(trained.output,
                  {"starting from the weights of " + base_.string(), "stay in " + base_.string()});
  const auto state = load_checkpoint(newest_checkpoint(whole)).state;
  EXPECT_EQ(std::get<std::string>(state.at("base_model")), base_.string());
  EXPECT_EQ(std::get<std::string>(state.at("base_fingerprint")), fingerprint_of(base_));
  const auto names = names_in(whole);
  for (const auto* frozen : {"embed.weight",
                             "layers.1.attn.wq_a.weight",
                             "layers.1.attn.indexer.wq_b.weight",
                             "layers.1.attn.indexer.compressor.norm.weight",
                             "layers.0.ffn.experts.3.w2.weight",
                             "layers.0.ffn.gate.tid2eid",
                             "mtp.0.ffn.experts.0.w1.weight"}) {
    EXPECT_FALSE(names.contains(frozen)) << frozen;
  }
  for (const auto* own : {"head.weight",
                          "layers.1.attn.kv_norm.weight",
                          "layers.1.attn.compressor.wkv.weight",
                          "layers.1.ffn.gate.weight",
                          "layers.1.ffn.gate.bias"}) {
    EXPECT_TRUE(names.contains(own)) << own;
  }
  train(stopped, 2);
  expect_mentions(train(stopped).output, {"frozen weights of " + base_.string()});
  expect_same_run(stopped, whole);
}

TEST_F(FrozenFloat, CompletesTheRunForEveryCommand) {
  const auto run = tuned("run");
  train(run);
  const auto want = logits(run.run_dir());
  EXPECT_FALSE(want.equal(logits(base_))) << "training changed nothing";
  const auto stored = read_model(run.run_dir()).weights;
  expect_bitwise_equal("frozen",
                       stored.at("layers.1.attn.wq_a.weight").values,
                       value_in(base_, "layers.1.attn.wq_a.weight"));
  EXPECT_FALSE(stored.at("head.weight").values.equal(value_in(base_, "head.weight")));
  for (const auto& verdict : inspect(run.run_dir(), /*verify=*/true).verdicts) {
    EXPECT_EQ(verdict.problem, "") << verdict.file;
  }
  for (const auto& [to, name] :
       {std::pair{ConvertTo::kRelease, "release"}, {ConvertTo::kCheckpoint, "checkpoint"}}) {
    convert(run.run_dir(), folder_ / name, {.to = to, .progress = {}});
    fs::rename(base_, folder_ / "elsewhere");  // what was converted is whole
    expect_bitwise_equal(name, logits(folder_ / name), want);
    fs::rename(folder_ / "elsewhere", base_);
  }
}

TEST_F(FrozenFloat, ABaseThatIsGoneOrAnotherOneIsAnErrorEverywhere) {
  const auto run = tuned("run");
  train(run, 3);
  const auto want = logits(run.run_dir());
  const auto shard = base_ / "shard-00000-of-00001.h5";
  const std::string bytes = read_file(shard);
  auto changed = bytes;
  changed.back() = static_cast<char>(changed.back() ^ 1);
  write_file_atomically(shard, changed);
  expect_error_everywhere(run, {base_.string(), "now holds another model"});
  write_file_atomically(shard, bytes);

  fs::rename(base_, folder_ / "elsewhere");
  expect_error_everywhere(run, {"its frozen weights are in " + base_.string(), "put the base"});
  fs::create_directory_symlink(folder_ / "elsewhere", base_);
  expect_bitwise_equal("logits", logits(run.run_dir()), want);
  EXPECT_EQ(train(run).end, TrainingEnd::kFinished);
}

TEST_F(FrozenFloat, ABaseOfHuggingFacesMayBeFrozenToo) {
  convert(config("base").run_dir(), folder_ / "hf", {.to = ConvertTo::kHf, .progress = {}});
  auto run = tuned("run");
  run.run.init_from = (folder_ / "hf").string();
  run.model.num_nextn_predict_layers = 0;
  train(run, 3);
  EXPECT_FALSE(names_in(run).contains("layers.0.ffn.experts.3.w2.weight"));
  EXPECT_EQ(train(run).end, TrainingEnd::kFinished);
  expect_bitwise_equal("frozen",
                       value_in(run.run_dir(), "layers.0.ffn.experts.3.w2.weight"),
                       value_in(base_, "layers.0.ffn.experts.3.w2.weight"));
}

// A run removes its old checkpoints, so nothing may depend on one.
TEST_F(FrozenFloat, ARunOnAnotherRunNeedsNoCheckpointOfThatOne) {
  auto run = tuned("run");
  run.run.init_from = config("base").run_dir().string();
  train(run, 2);
  EXPECT_FALSE(load_checkpoint(newest_checkpoint(run)).state.contains("base_model"));
  EXPECT_EQ(names_in(run), names_in(config("base")));
  fs::remove_all(config("base").run_dir());
  logits(run.run_dir());
  EXPECT_EQ(train(run).end, TrainingEnd::kFinished);
}

TEST_F(FrozenFloat, ARunOnATunedRunHasThatOnesBase) {
  auto first = tuned("first"), second = tuned("second");
  train(first);
  second.optimizer.groups.push_back({.match = "head.weight", .optimizer = OptimizerKind::kNone});
  second.run.init_from = first.run_dir().string();
  const auto want = value_in(first.run_dir(), "head.weight");
  train(second, 3);
  EXPECT_EQ(
      std::get<std::string>(load_checkpoint(newest_checkpoint(second)).state.at("base_model")),
      base_.string());
  EXPECT_TRUE(names_in(second).contains("head.weight"));  // frozen, but the first run trained it
  EXPECT_FALSE(names_in(second).contains("embed.weight"));
  fs::remove_all(first.run_dir());
  train(second);
  expect_bitwise_equal("head", value_in(second.run_dir(), "head.weight"), want);
  fs::rename(base_, folder_ / "elsewhere");
  expect_mentions(error_of([&] { logits(second.run_dir()); }),
                  {"its frozen weights are in " + base_.string()});
}

TEST_F(FrozenFloat, WhatWasDrawnIsWritten) {
  auto run = tuned("run");
  run.run.init_from.clear();
  train(run, 2);
  const auto checkpoint = load_checkpoint(newest_checkpoint(run));
  EXPECT_FALSE(checkpoint.state.contains("base_model"));
  EXPECT_EQ(names_in(run), names_in(config("base")));
  EXPECT_EQ(train(run).end, TrainingEnd::kFinished);
}

TEST_F(FrozenFloat, ARunThatTrainsEverythingDependsOnNoBase) {
  auto run = config("run");
  run.run.init_from = base_.string();
  run.loss.indexer_mode = IndexerMode::kSparse;
  train(run, 2);
  EXPECT_FALSE(load_checkpoint(newest_checkpoint(run)).state.contains("base_model"));
  EXPECT_EQ(names_in(run), names_in(config("base")));
  fs::rename(base_, folder_ / "elsewhere");
  EXPECT_EQ(train(run).end, TrainingEnd::kFinished);
}

TEST_F(FrozenFloat, ARunOfTheIndexersAloneHoldsNothingElse) {
  auto run = config("run");
  run.run.init_from = base_.string();
  run.loss.indexer_mode = IndexerMode::kWarmup;
  train(run, 2);
  const auto names = names_in(run);
  EXPECT_EQ(names.size(), 6u);
  for (const auto& name : names) {
    EXPECT_TRUE(name.starts_with("layers.1.attn.indexer.")) << name;
  }
  EXPECT_EQ(train(run).end, TrainingEnd::kFinished);
}

// As earlier versions wrote them: frozen floats among the rest, and no base.
TEST_F(FrozenFloat, AnOldCheckpointThatHoldsThemStaysWhole) {
  const auto whole = tuned("whole"), old = tuned("old");
  train(whole);
  train(old, 3);
  const auto path = newest_checkpoint(old);
  {
    auto checkpoint = load_checkpoint(path);
    const auto names = names_in(old);
    const auto base = load_checkpoint(base_);
    for (const auto& [name, value] : weights_in(base)) {
      if (!names.contains(name)) {
        checkpoint.tensors.push_back({"model/" + name, value});
      }
    }
    std::ranges::sort(checkpoint.tensors, {}, &NamedTensor::name);
    checkpoint.state.erase("base_model");
    checkpoint.state.erase("base_fingerprint");
    save_checkpoint(path, checkpoint, {{"config.yaml", read_file(path / "config.yaml")}});
  }
  fs::rename(base_, folder_ / "elsewhere");
  train(old);
  EXPECT_FALSE(load_checkpoint(newest_checkpoint(old)).state.contains("base_model"));
  EXPECT_EQ(names_in(old), names_in(config("base")));
  EXPECT_TRUE(names_in(old).contains("embed.weight"));
  const auto got = logits(old.run_dir());
  fs::rename(folder_ / "elsewhere", base_);
  expect_bitwise_equal("logits", got, logits(whole.run_dir()));
}

TEST_F(FrozenFloat, WhatIsFrozenLaterStaysTheRunsOwn) {
  auto run = tuned("run");
  train(run, 3);
  const std::string name = "layers.1.ffn.gate.weight";
  const auto trained = value_in(run.run_dir(), name);
  run.optimizer.groups.push_back({.match = "*ffn.gate.weight", .optimizer = OptimizerKind::kNone});
  train(run);
  EXPECT_TRUE(names_in(run).contains(name));
  expect_bitwise_equal(name, value_in(run.run_dir(), name), trained);
  EXPECT_FALSE(trained.equal(value_in(base_, name)));
}

TEST_F(FrozenFloat, WhatIsInTheBaseCannotBeTrainedLater) {
  auto run = tuned("run");
  train(run, 3);
  run.optimizer.groups.pop_back();
  expect_mentions(error_of([&] { train(run); }),
                  {"'embed.weight' was frozen and left in the base model", "optimizer.groups"});
}

TEST_F(FrozenFloat, AnotherRunsCheckpointBringsItsOwnBase) {
  const auto first = tuned("first");
  train(first, 3);
  auto second = tuned("second");
  second.run.init_from.clear();
  train(second,
        std::numeric_limits<int64_t>::max(),
        {ResumeFrom::Kind::kPath, newest_checkpoint(first)});
  EXPECT_EQ(
      std::get<std::string>(load_checkpoint(newest_checkpoint(second)).state.at("base_model")),
      base_.string());
  train(first);
  expect_bitwise_equal("logits", logits(second.run_dir()), logits(first.run_dir()));
}

TEST_F(FrozenFloat, ThePlanCopiesOnlyWhatIsWritten) {
  const auto run = tuned("run");
  auto drawn = run;
  drawn.run.init_from.clear();
  EXPECT_LT(plan_training(run).memory.snapshot_bytes, plan_training(drawn).memory.snapshot_bytes);
  EXPECT_EQ(plan_training(run).memory.weights_bytes, plan_training(drawn).memory.weights_bytes);
}

}  // namespace
}  // namespace braid
