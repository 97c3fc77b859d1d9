// Runs whose length is a number of passes through the data (train.epochs).
#include "run/epoch_steps.h"
#include "run/regime.h"
#include "tests/train/tiny_run.h"

namespace braid {
namespace {

using namespace testing;

class EpochsTest : public TinyRun {
 protected:
  RunConfig of_epochs(const std::string& name, double epochs) const {
    auto config = this->config(name);
    config.train.epochs = epochs;
    config.train.max_steps = StepCount::by_epochs();
    return config;
  }

  PreparedData prepared(const RunConfig& config) const {
    return prepare_data(config.data, tokenizer_, {folder_ / "data", folder_ / "validation.jsonl"});
  }
};

// With steps that grow and rows that grow, which divide every window anew.
TEST_F(EpochsTest, EndWithTheFirstStepAfterWhichEveryDocumentWasSeenThatOften) {
  for (const double epochs : {0.5, 1.0, 2.0, 2.25}) {
    for (const bool ramps : {false, true}) {
      auto config = of_epochs("run", epochs);
      if (ramps) {
        config.schedule.global_batch_size = {{.until_step = 3, .value = 2}};
        config.schedule.seq_len = {{.until_step = 2, .value = 16}, {.until_step = 5, .value = 24}};
      }
      const auto data = prepared(config);
      count_epochs(data, config);
      Loader loader(data.sources(), stream_options(config));
      int64_t steps = 0;
      double before = 0;
      for (; loader.progress().epochs[0] < epochs; ++steps) {
        before = loader.progress().epochs[0];
        const auto regime = regime_at(config, steps);
        loader.next({regime.sequences, regime.seq_len});
      }
      EXPECT_EQ(config.train.max_steps, steps) << epochs;
      EXPECT_LT(before, epochs);
      EXPECT_TRUE(config.train.max_steps.is_by_epochs());
    }
  }
}

TEST_F(EpochsTest, AreAsManyStepsOnEveryStartAndChangeNoBit) {
  auto whole = of_epochs("whole", 1);
  whole.train.global_batch_size = 8;
  const auto first = train(whole);
  EXPECT_EQ(first.end, TrainingEnd::kFinished);
  const auto written =
      load_config<RunConfig>((whole.run_dir() / "config.yaml").string()).value.train;
  EXPECT_EQ(written.epochs, 1);
  ASSERT_GT(written.max_steps, 2);
  EXPECT_LT(written.max_steps, 20);
  expect_mentions(first.output, {text("train.epochs 1: ", written.max_steps.steps(), " steps")});

  auto stopped = whole;
  stopped.run.name = "stopped";
  EXPECT_EQ(train(stopped, 2).end, TrainingEnd::kInterrupted);
  // The run's own file, with the steps in it, is the same run.
  auto again = load_run_config((stopped.run_dir() / "config.yaml").string(), {});
  EXPECT_EQ(train(again).end, TrainingEnd::kFinished);
  expect_same_run(stopped, whole);

  auto longer = load_run_config((whole.run_dir() / "config.yaml").string(), {"train.epochs=2"});
  const auto further = train(longer);
  EXPECT_EQ(further.end, TrainingEnd::kFinished);
  expect_mentions(further.output, {"train.epochs was 1, is 2", "by epochs"});
  EXPECT_GT(
      load_config<RunConfig>((whole.run_dir() / "config.yaml").string()).value.train.max_steps,
      written.max_steps);
}

}  // namespace
}  // namespace braid
