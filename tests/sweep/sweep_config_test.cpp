#include "sweep/sweep_config.h"

#include <fstream>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/file.h"
#include "formats/base_model.h"
#include "formats/synthesize.h"
#include "sweep/sweep_run.h"
#include "tests/core/fresh_folder.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

class SweepConfigTest : public ::testing::Test {
 protected:
  SweepConfigTest() {
    write("run.yaml", "train: {max_steps: 2, threads: 0}\n");
    write("plain.yaml", "model: {residual: plain}\n");
  }
  ~SweepConfigTest() override { fs::remove_all(folder_); }

  void write(const std::string& name, const std::string& contents) const {
    std::ofstream(folder_ / name) << contents;
  }

  SweepConfig loaded(const std::string& yaml) const {
    write("sweep.yaml", yaml);
    return load_sweep_config((folder_ / "sweep.yaml").string(), {});
  }

  std::vector<SweepRun> runs(const std::string& yaml) const {
    const auto config = loaded(yaml);
    return sweep_runs(config, sweep_arms(config), {1e9, ""});
  }

  std::vector<std::string> names(const std::string& yaml) const {
    std::vector<std::string> result;
    for (const auto& run : runs(yaml)) {
      result.push_back(run.name);
    }
    return result;
  }

  std::string error_of(const std::string& yaml) const {
    try {
      runs(yaml);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  void expect_error(const std::string& yaml, const std::vector<std::string>& parts) const {
    const auto message = error_of(yaml);
    for (const auto& part : parts) {
      EXPECT_NE(message.find(part), std::string::npos) << message << "\nlacks: " << part;
    }
  }

  fs::path folder_ = testing::fresh_folder();
};

using Names = std::vector<std::string>;

TEST_F(SweepConfigTest, ArmsHaveTheirKeysAndOverlays) {
  const auto all = runs(
      "config: run.yaml\n"
      "set: {train.max_steps: 3}\n"
      "arms:\n"
      "  mhc:\n"
      "  plain: {overlays: plain.yaml}\n"
      "  hc: {set: {model: {residual: hc}, optimizer.learning_rate: 0.5}}\n"
      "seeds: 1\n");
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0].config.model.residual, ResidualKind::kMhc);
  EXPECT_EQ(all[1].config.model.residual, ResidualKind::kPlain);
  EXPECT_EQ(all[2].config.model.residual, ResidualKind::kHc);
  EXPECT_EQ(all[2].config.optimizer.learning_rate, 0.5);
  for (const auto& run : all) {
    EXPECT_EQ(run.config.train.max_steps, 3);
    EXPECT_EQ(run.config.run.seed, 1);
    EXPECT_EQ(run.config.train.threads, 1);
    EXPECT_GT(run.cost.flops, 0);
    EXPECT_GT(run.cost.memory_bytes, 0);
  }
}

// What is compared first is what a reader wants to see first.
TEST_F(SweepConfigTest, RunsComeSeedBySeed) {
  EXPECT_EQ(names("config: run.yaml\narms: {a: , b: }\nseeds: [5, 3]\n"),
            (Names{"a-seed5", "b-seed5", "a-seed3", "b-seed3"}));
}

TEST_F(SweepConfigTest, AGridMultipliesTheArms) {
  const auto all = runs(
      "config: run.yaml\narms: {a: , b: }\nseeds: 1\n"
      "grid: {optimizer.learning_rate: [1e-3, 2e-3], train.global_batch_size: [16, 32]}\n");
  ASSERT_EQ(all.size(), 8u);
  EXPECT_EQ(all[0].name, "a-learning_rate-1e-3-global_batch_size-16-seed1");
  EXPECT_EQ(all[3].config.optimizer.learning_rate, 2e-3);
  EXPECT_EQ(all[3].config.train.global_batch_size, 32);
  EXPECT_EQ(names("config: run.yaml\nseeds: 1\ngrid: {model.hc_mult: [2, 4]}\n"),
            (Names{"hc_mult-2-seed1", "hc_mult-4-seed1"}));
}

TEST_F(SweepConfigTest, TuningComesBeforeTheOtherSeeds) {
  EXPECT_EQ(names("config: run.yaml\narms: {a: , b: {tune: none}}\nseeds: 2\n"
                  "tune: {key: optimizer.learning_rate, values: [0.1, 0.2]}\n"),
            (Names{"a-learning_rate-0.1-seed1",
                   "a-learning_rate-0.2-seed1",
                   "b-seed1",
                   "a-learning_rate-0.1-seed2",
                   "a-learning_rate-0.2-seed2",
                   "b-seed2"}));
}

TEST_F(SweepConfigTest, ArmsThatAreNotPairedHaveOtherSeeds) {
  const auto all = runs("config: run.yaml\narms: {a: , b: }\nseeds: 1\npaired: false\n");
  EXPECT_EQ(all[0].config.run.seed, 1);
  EXPECT_EQ(all[1].config.run.seed, 1001);
}

TEST_F(SweepConfigTest, FilesAreRelativeToTheOneThatNamesThem) {
  fs::create_directories(folder_ / "more");
  write("more/long.yaml", "base: ../sweep.yaml\nset: {train.max_steps: 9}\n");
  loaded("config: run.yaml\nseeds: 1\n");
  const auto config = load_sweep_config((folder_ / "more/long.yaml").string(), {"seeds=2"});
  EXPECT_EQ(config.seeds.seeds, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(config.output, "sweeps/long");
  EXPECT_EQ(sweep_runs(config, sweep_arms(config), {1e9, ""})[0].config.train.max_steps, 9);
}

// In configs/reproductions/ beside what their runs are made of.
TEST_F(SweepConfigTest, EveryShippedSweepLoadsWithItsRuns) {
  const fs::path configs = BRAID_TEST_DATA "/../../configs";
  // What those of fine-tuning start from, in place of what their first lines make.
  const auto tiny_base = configs / "finetune/tiny-base.yaml";
  const auto base = load_run_config(tiny_base.string(), {"tokenizer=bytes"}).model;
  synthesize_release(
      folder_ / "base", base, {.expert_layers = {}, .sizes_only = true, .progress = {}});
  int sweeps = 0;
  for (const auto* folder : {"sweeps", "reproductions"}) {
    for (const auto& entry : fs::directory_iterator(configs / folder)) {
      SCOPED_TRACE(entry.path());
      const auto contents = read_file(entry.path());
      if (contents.find("\narms:") == std::string::npos) {
        continue;
      }
      std::vector<std::string> overrides;
      if (contents.find("run.init_from") != std::string::npos) {
        overrides.push_back("set={tokenizer: bytes, run.init_from: " + (folder_ / "base").string() +
                            "}");
      }
      const auto config = load_sweep_config(entry.path().string(), overrides);
      EXPECT_GE(sweep_runs(config, sweep_arms(config), {1e9, ""}).size(), 6u);
      ++sweeps;
    }
  }
  EXPECT_GE(sweeps, 2);
}

TEST_F(SweepConfigTest, NumbersAndCriteriaAreRead) {
  const auto config = loaded(
      "config: run.yaml\n"
      "arms: {hc: , mhc: }\n"
      "numbers:\n"
      "  gain: {metric: residual_gain.forward_max, take: largest}\n"
      "  early: {metric: loss, set: code, steps: [0, 25]}\n"
      "  end: learning_rate\n"
      "criteria:\n"
      "  - {arm: hc, number: gain, over: mhc, above: 3}\n"
      "  - {arm: mhc, verdict: no-difference}\n");
  ASSERT_EQ(config.numbers.all.size(), 3u);
  EXPECT_EQ(config.numbers.all[0].name, "gain");
  EXPECT_EQ(config.numbers.all[0].take, Take::kLargest);
  EXPECT_EQ(config.numbers.all[1].set, "code");
  EXPECT_EQ(config.numbers.all[1].steps, (std::vector<int64_t>{0, 25}));
  EXPECT_EQ(config.numbers.all[2].metric, "learning_rate");
  ASSERT_EQ(config.criteria.size(), 2u);
  EXPECT_EQ(config.criteria[0].over, "mhc");
  EXPECT_EQ(config.criteria[0].above, 3);
  EXPECT_EQ(config.criteria[0].below, std::nullopt);
  EXPECT_EQ(config.criteria[1].verdict, ExpectedVerdict::kNoDifference);
}

TEST_F(SweepConfigTest, CriteriaMayBeOfArmsOfTheGrid) {
  const std::string grid = "config: run.yaml\nseeds: 1\ngrid: {model.hc_mult: [2, 4]}\n";
  EXPECT_EQ(
      runs(grid + "criteria: [{arm: hc_mult-2, number: loss, over: hc_mult-4, above: 1}]\n").size(),
      2u);
  expect_error(grid + "criteria: [{arm: hc_mult-3, number: loss, above: 1}]\n",
               {"criteria[0].arm", "sweep.yaml:4", "'hc_mult-3'", "did you mean 'hc_mult-2'"});
}

TEST_F(SweepConfigTest, ErrorsOfNumbersAndCriteriaNameTheKeyAndThePlace) {
  const std::string arms = "config: run.yaml\narms: {hc: , mhc: }\n";
  const auto of_number = [&](const std::string& number, const std::vector<std::string>& parts) {
    expect_error(arms + "numbers:\n  " + number + "\n", parts);
  };
  of_number("a b: loss", {"numbers", "sweep.yaml:4", "'a b'", "name of a number"});
  of_number("gain: {take: last}", {"numbers.gain", "sweep.yaml:4", "lacks the key 'metric'"});
  of_number("gain: {metric: x, tke: last}", {"numbers.gain.tke", "sweep.yaml:4", "'take'"});
  of_number("gain: {metric: x, take: mean}", {"numbers.gain.take", "last_tenth"});
  of_number("gain: {metric: x, steps: [5]}", {"numbers.gain.steps", "sweep.yaml:4", "[from, to]"});
  of_number("gain: {metric: x, steps: [5, 4]}", {"numbers.gain.steps"});
  of_number("loss: x", {"numbers.loss", "sweep.yaml:4", "column"});
  of_number("tokens_to_target: x", {"numbers.tokens_to_target", "column"});
  const auto of_criterion = [&](const std::string& criterion,
                                const std::vector<std::string>& parts) {
    expect_error(arms + "numbers: {gain: x}\ncriteria:\n  - {" + criterion + "}\n", parts);
  };
  of_criterion("number: gain, above: 1", {"criteria[0]", "sweep.yaml:5", "lacks the key 'arm'"});
  of_criterion("arm: hc", {"criteria[0]", "sweep.yaml:5", "lacks a number"});
  of_criterion("arm: hc, number: gain", {"criteria[0]", "sweep.yaml:5", "above or below"});
  of_criterion("arm: hc, number: gian, above: 1",
               {"criteria[0].number", "sweep.yaml:5", "'gian'", "did you mean 'gain'"});
  of_criterion("arm: mhcc, number: gain, above: 1",
               {"criteria[0].arm", "sweep.yaml:5", "'mhcc'", "did you mean 'mhc'"});
  of_criterion("arm: hc, number: gain, over: plain, above: 1",
               {"criteria[0].over", "sweep.yaml:5", "'plain'", "hc | mhc"});
  of_criterion("arm: hc, number: gain, over: mhc, minus: mhc, above: 1",
               {"criteria[0].over", "sweep.yaml:5", "minus"});
  of_criterion("arm: hc, number: gain, over: hc, above: 1", {"criteria[0].over", "itself"});
  of_criterion("arm: hc, number: gain, above: 2, below: 1", {"criteria[0].below", "above"});
  of_criterion("arm: mhc, number: tokens_to_target, below: 1",
               {"criteria[0].number", "judge.target"});
  of_criterion("arm: mhc, verdict: better, above: 1", {"criteria[0].above", "verdict"});
  of_criterion("arm: mhc, verdict: best", {"criteria[0].verdict", "sweep.yaml:5", "no-difference"});
  of_criterion("arm: hc, verdict: better", {"criteria[0].arm", "sweep.yaml:5", "base arm"});
}

TEST_F(SweepConfigTest, SizesHaveUnits) {
  EXPECT_EQ(loaded("config: run.yaml\nmemory: 8GiB\n").memory.bytes, int64_t{8} << 30);
  EXPECT_EQ(loaded("config: run.yaml\nmemory: 1.5 MiB\n").memory.bytes, 3 << 19);
  EXPECT_EQ(loaded("config: run.yaml\n").memory.bytes, std::nullopt);
  expect_error("config: run.yaml\nmemory: 8GB\n", {"memory", "sweep.yaml:2", "8GiB"});
}

TEST_F(SweepConfigTest, ErrorsNameTheKeyAndThePlace) {
  expect_error("confg: run.yaml\n", {"confg", "sweep.yaml:1", "did you mean 'config'"});
  expect_error("seeds: 2\n", {"config", "is required"});
  expect_error("config: rn.yaml\n", {"config", "sweep.yaml:1", "no such file", "rn.yaml"});
  expect_error("config: run.yaml\narms: {a: {sets: {}}}\n",
               {"arms.a.sets", "sweep.yaml:2", "did you mean 'set'"});
  expect_error("config: run.yaml\narms:\n  a: {set: {model.residul: plain}}\n",
               {"arm a", "model.residul", "sweep.yaml:3", "did you mean 'residual'"});
  expect_error("config: run.yaml\narms:\n  a: {set: {model.residual: plan}}\n",
               {"arm a", "model.residual", "sweep.yaml:3", "plain"});
  expect_error("config: run.yaml\narms:\n  a b:\n", {"'a b'", "name of an arm"});
  expect_error("config: run.yaml\nset: {run.seed: 3}\n", {"run.seed", "`seeds`"});
  expect_error("config: run.yaml\nset: {run: {name: x}}\n", {"run.name"});
  expect_error("config: run.yaml\ngrid: {model.hc_mult: 2}\n", {"grid.model.hc_mult", "list"});
  expect_error("config: run.yaml\ngrid: {model.hc_mult: [2, 2]}\n", {"there twice"});
  expect_error("config: run.yaml\nbase_arm: b\narms: {a: }\n", {"base_arm", "'b'", "a"});
  expect_error("config: run.yaml\nseeds: []\n", {"seeds", "no seed"});
  expect_error("config: run.yaml\nseeds: [1, 1]\n", {"seeds", "twice"});
  expect_error("config: run.yaml\nseeds: 0\n", {"seeds"});
  expect_error("config: run.yaml\ntune: {key: optimizer.learning_rate}\n", {"tune", "values"});
  expect_error("config: run.yaml\nseeds: 1\ntune: {key: a.b, values: [1, 2], seeds: 2}\n",
               {"tune", "2 seeds", "has 1"});
  expect_error("config: run.yaml\nset: {train: {micro_batch_size: 3}}\n",
               {"train.micro_batch_size", "sweep.yaml:2", "does not divide"});
}

}  // namespace
}  // namespace braid
