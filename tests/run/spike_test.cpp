#include "run/spike.h"

#include <cmath>
#include <fstream>

#include "tests/train/tiny_run.h"

namespace braid {
namespace {

using namespace testing;

StabilitySection section() {
  StabilitySection section;
  section.spike_memory_steps = 10;
  section.spike_patience = 2;
  return section;
}

// A noisy loss around 2.
double noisy(int64_t step) {
  return 2 + 0.05 * std::sin(static_cast<double>(step) * 1.7);
}

TEST(SpikeDetector, NeedsAMarginAndPatience) {
  SpikeDetector detector(section());
  for (int64_t step = 0; step < 50; ++step) {
    EXPECT_FALSE(detector.spiked(noisy(step)));
  }
  EXPECT_NEAR(detector.mean(), 2, 0.05);
  EXPECT_FALSE(detector.spiked(2.2)) << "six deviations, but less than the least rise";
  EXPECT_FALSE(detector.spiked(9)) << "once";
  EXPECT_FALSE(detector.spiked(2));
  EXPECT_FALSE(detector.spiked(9));
  EXPECT_TRUE(detector.spiked(9)) << "twice in a row";
  EXPECT_NEAR(detector.mean(), 2, 0.05) << "spikes do not enter the mean";
}

TEST(SpikeDetector, SaysNothingBeforeItKnowsTheLoss) {
  SpikeDetector detector(section());
  for (int64_t step = 0; step < 9; ++step) {
    EXPECT_FALSE(detector.spiked(step < 5 ? 2 : 20));
  }
}

using SpikeTest = TinyRun;

// The detector is told that losses lie near 0, as if training had been far ahead: then the present
// ones are a spike.
TEST_F(SpikeTest, RollsBackToTheNewestCheckpointAndStopsAtTheLimit) {
  auto run = config("run");
  run.stability.spike_action = SpikeAction::kRollback;
  run.stability.spike_patience = 2;
  run.stability.max_rollbacks = 2;
  train(run, 3);
  const auto path = newest_checkpoint(run);
  auto checkpoint = load_checkpoint(path);
  checkpoint.state["loss_steps"] = int64_t{1000};
  checkpoint.state["loss_mean"] = 0.1;
  checkpoint.state["loss_variance"] = 1e-4;
  save_checkpoint(path, checkpoint, {{"config.yaml", read_file(path / "config.yaml")}});
  expect_mentions(error_of([&] { train(run); }),
                  {"step 5: loss", "spikes above its running mean 0.1", "after 2 rollbacks"});
  int rollbacks = 0;
  int64_t before = 0;
  for (const auto& record : metrics_but_timings(run)) {
    if (record.value("split", "") == "rollback") {
      ++rollbacks;
      EXPECT_EQ(record.at("step"), 3) << "step 4 spiked and must have no checkpoint";
    }
    EXPECT_GE(record.at("step").get<int64_t>(), before);
    if (!record.contains("split")) {
      EXPECT_EQ(record.at("rollbacks"), rollbacks);
    }
    before = record.at("step").get<int64_t>();
  }
  EXPECT_EQ(rollbacks, 2) << "both are on record";

  run.stability.spike_action = SpikeAction::kLog;
  EXPECT_EQ(train(run).end, TrainingEnd::kFinished);
}

}  // namespace
}  // namespace braid
