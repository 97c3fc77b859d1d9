#include "run/regime.h"

#include <cmath>

#include "tests/train/tiny_run.h"

namespace braid {
namespace {

using namespace testing;
using RegimeTest = TinyRun;

RunConfig phases() {
  RunConfig config;
  config.train.max_steps = 100;
  config.schedule.dense_steps = 10;
  config.schedule.indexer_warmup_steps = 5;
  config.loss.indexer_mode = IndexerMode::kSparse;
  return config;
}

TEST(Regime, GoesFromDenseThroughTheIndexersWarmUpToSparse) {
  const auto config = phases();
  const auto dense = regime_at(config, 9), warmup = regime_at(config, 10),
             sparse = regime_at(config, 15);
  EXPECT_TRUE(dense.options.dense_attention && warmup.options.dense_attention);
  EXPECT_FALSE(sparse.options.dense_attention);
  EXPECT_EQ(dense.trained, TrainedParts{TrainedPart::kTrunk});
  EXPECT_EQ(warmup.trained, TrainedParts{TrainedPart::kIndexer});
  EXPECT_EQ(sparse.trained, TrainedParts::all());
  EXPECT_EQ(dense.weights.indexer, 0);
  EXPECT_EQ(warmup.weights.indexer, 1);
  EXPECT_EQ(sparse.weights.indexer, 1);
  EXPECT_EQ(ever_trained(config), TrainedParts::all());
}

TEST(Regime, StartsOnlyWhereItMayChange) {
  auto config = phases();
  config.schedule.global_batch_size = {{.until_step = 20, .value = 2},
                                       {.until_step = 300, .value = 4}};
  EXPECT_EQ(regime_starts(config), (std::vector<int64_t>{0, 10, 15, 20}));
  config.train.max_steps = 15;
  EXPECT_EQ(regime_starts(config), (std::vector<int64_t>{0, 10}));
}

TEST(Regime, RoundsFromAStepOn) {
  auto config = phases();
  EXPECT_TRUE(regime_at(config, 0).qat);
  config.schedule.qat_from_step = 12;
  EXPECT_FALSE(regime_at(config, 11).qat);
  EXPECT_TRUE(regime_at(config, 12).qat);
  EXPECT_EQ(regime_starts(config), (std::vector<int64_t>{0, 10, 12, 15}));
}

TEST(Regime, WithoutTheIndexersLossLeavesThemAlone) {
  RunConfig config;
  EXPECT_EQ(ever_trained(config), TrainedParts{TrainedPart::kTrunk});
  EXPECT_EQ(regime_at(config, 0).weights.indexer, 0);
  config.loss.indexer_mode = IndexerMode::kWarmup;
  EXPECT_EQ(ever_trained(config), TrainedParts{TrainedPart::kIndexer});
  EXPECT_TRUE(regime_at(config, 500).warms_up_indexer());
}

TEST(Regime, FollowsItsRampsAndTheMtpWeightItsDecay) {
  auto config = phases();
  config.schedule.global_batch_size = {{4, 2}};
  config.schedule.seq_len = {{6, 32}, {8, 64}};
  config.schedule.kind = ScheduleKind::kLinear;
  config.schedule.warmup_steps = 0;
  config.schedule.decay_start = 0.5;
  EXPECT_EQ(regime_at(config, 3).sequences, 2);
  EXPECT_EQ(regime_at(config, 4).sequences, config.train.global_batch_size);
  EXPECT_EQ(regime_at(config, 5).seq_len, 32);
  EXPECT_EQ(regime_at(config, 7).seq_len, 64);
  EXPECT_EQ(regime_at(config, 8).seq_len, config.data.seq_len);
  EXPECT_EQ(regime_at(config, 49).weights.mtp, 0.3);
  EXPECT_EQ(regime_at(config, 50).weights.mtp, 0.1);
}

// Every regime in one run, stopped after every step.
TEST_F(RegimeTest, StoppingInAnyPhaseChangesNoBit) {
  auto whole = config("whole"), stopped = config("stopped");
  for (auto* run : {&whole, &stopped}) {
    run->schedule.dense_steps = 2;
    run->schedule.indexer_warmup_steps = 2;
    run->schedule.global_batch_size = {{3, 2}};
    run->loss.indexer_mode = IndexerMode::kSparse;
    run->train.recompute_sublayers = 2;
  }
  train(whole);
  for (int step = 0; step < 6; ++step) {
    train(stopped, 1);
  }
  expect_same_run(stopped, whole);
}

TEST_F(RegimeTest, TheWarmUpMovesTheIndexersAndNothingElse) {
  auto run = config("run");
  run.schedule.indexer_warmup_steps = 3;
  train(run, 0);
  const auto before = load_checkpoint(newest_checkpoint(run));
  train(run, 3);
  const auto after = load_checkpoint(newest_checkpoint(run));
  for (std::size_t i = 0; i < before.tensors.size(); ++i) {
    const auto& name = before.tensors[i].name;
    const bool moved = !before.tensors[i].value.equal(after.tensors[i].value);
    EXPECT_EQ(moved, name.find(".indexer.") != std::string::npos) << name;
  }
  EXPECT_TRUE(metrics_of_step(run, 3).contains("indexer_kl"));
  EXPECT_FALSE(metrics_of_step(run, 3).contains("gradient_norm.attention"));
}

TEST_F(RegimeTest, ARunWithoutTheIndexersLossSaysSo) {
  auto run = config("run");
  expect_mentions(train(run, 1).output, {"indexers: not trained (loss.indexer_mode is off)"});
  EXPECT_FALSE(metrics_of_step(run, 1).contains("gradient_norm.indexer"));
  auto with = config("with");
  with.loss.indexer_mode = IndexerMode::kSparse;
  train(with, 1);
  EXPECT_GT(metrics_of_step(with, 1).at("gradient_norm.indexer"), 0);
}

}  // namespace
}  // namespace braid
