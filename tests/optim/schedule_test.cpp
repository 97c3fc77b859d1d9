#include "optim/schedule.h"

#include <gtest/gtest.h>

namespace braid {
namespace {

TEST(Schedule, WarmsUpLinearlyAndReachesThePeak) {
  const ScheduleConfig config{.kind = ScheduleKind::kConstant, .warmup_steps = 4};
  const double want[] = {0.25, 0.5, 0.75, 1, 1, 1};
  for (int64_t step = 0; step < 6; ++step) {
    EXPECT_DOUBLE_EQ(learning_rate_factor(config, step, 6), want[step]) << step;
  }
  EXPECT_EQ(decay_start_step(config, 6), 6);
}

TEST(Schedule, CosineFallsFromThePeakToTheMinimum) {
  const ScheduleConfig config{.kind = ScheduleKind::kCosine, .warmup_steps = 10, .min_ratio = 0.1};
  EXPECT_DOUBLE_EQ(learning_rate_factor(config, 10, 110), 1);
  EXPECT_DOUBLE_EQ(learning_rate_factor(config, 60, 110), 0.55);
  EXPECT_NEAR(learning_rate_factor(config, 35, 110), 0.1 + 0.9 * 0.8535533905932737, 1e-15);
  EXPECT_DOUBLE_EQ(learning_rate_factor(config, 110, 110), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate_factor(config, 500, 110), 0.1);
}

TEST(Schedule, LinearDecayCanStartLate) {
  const ScheduleConfig config{
      .kind = ScheduleKind::kLinear, .warmup_steps = 5, .decay_start = 0.8, .min_ratio = 0};
  EXPECT_EQ(decay_start_step(config, 100), 80);
  EXPECT_DOUBLE_EQ(learning_rate_factor(config, 80, 100), 1);
  EXPECT_DOUBLE_EQ(learning_rate_factor(config, 85, 100), 0.75);
  EXPECT_NEAR(learning_rate_factor(config, 99, 100), 0.05, 1e-15);
}

TEST(Schedule, DecayNeverStartsBeforeTheWarmUpEnds) {
  const ScheduleConfig config{
      .kind = ScheduleKind::kLinear, .warmup_steps = 50, .decay_start = 0.1};
  EXPECT_EQ(decay_start_step(config, 100), 50);
  EXPECT_DOUBLE_EQ(learning_rate_factor(config, 50, 100), 1);
}

TEST(Schedule, AWarmUpIsAShareOfTheStepsThatTheRunHas) {
  const ScheduleConfig config{
      .kind = ScheduleKind::kLinear, .warmup_steps = 3, .warmup_share = 0.07};
  EXPECT_EQ(warmup_steps(config, 100), 7);
  EXPECT_EQ(warmup_steps(config, 101), 8);
  EXPECT_EQ(decay_start_step(config, 100), 7);
  EXPECT_DOUBLE_EQ(learning_rate_factor(config, 0, 100), 1.0 / 7);
  EXPECT_DOUBLE_EQ(learning_rate_factor(config, 7, 100), 1);
  EXPECT_EQ(warmup_steps({.warmup_steps = 3}, 100), 3);
  EXPECT_EQ(warmup_steps({.warmup_share = 0}, 100), 0);
}

TEST(Schedule, ToleratesAWarmUpLongerThanTheRun) {
  const ScheduleConfig config{.kind = ScheduleKind::kCosine, .warmup_steps = 50};
  EXPECT_EQ(decay_start_step(config, 10), 10);
  EXPECT_DOUBLE_EQ(learning_rate_factor(config, 9, 10), 0.2);
}

TEST(Schedule, SqrtFallsSteeplyAtFirst) {
  const ScheduleConfig config{.kind = ScheduleKind::kSqrt, .warmup_steps = 0, .min_ratio = 0};
  EXPECT_DOUBLE_EQ(learning_rate_factor(config, 25, 100), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate_factor(config, 100, 100), 0);
}

TEST(Schedule, OfALongerRunIsStretchedOrKeepsItsSteps) {
  const ScheduleConfig stretch{.on_longer = OnLonger::kStretch};
  const ScheduleConfig keep{.on_longer = OnLonger::kContinue};
  EXPECT_EQ(spanned_steps(stretch, 20, 20, 40), 40);
  EXPECT_EQ(spanned_steps(keep, 20, 20, 40), 20);
  EXPECT_EQ(spanned_steps(keep, 20, 40, 60), 20);
  EXPECT_EQ(spanned_steps(stretch, 20, 40, 60), 60);
  for (const auto& config : {stretch, keep}) {
    EXPECT_EQ(spanned_steps(config, 20, 40, 40), 20);  // continued again: as it was decided
    EXPECT_EQ(spanned_steps(config, 20, 20, 10), 10);
  }
}

TEST(Schedule, BehindItsStepsTheLastRateStays) {
  const ScheduleConfig config{.kind = ScheduleKind::kCosine, .warmup_steps = 50};
  EXPECT_DOUBLE_EQ(learning_rate_factor(config, 99, 60), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate_factor(config, 99, 10), 11.0 / 50);  // of a warm-up cut short
}

TEST(Ramp, HoldsEachValueUntilItsStep) {
  const std::vector<RampStage> stages = {{3, 2}, {5, 4}};
  const int64_t want[] = {2, 2, 2, 4, 4, 8, 8};
  for (int64_t step = 0; step < 7; ++step) {
    EXPECT_EQ(ramp_value(stages, 8, step), want[step]) << step;
  }
  ScheduleConfig config{.seq_len = {{5, 2}, {5, 4}}};
  EXPECT_THROW(config.validate(), ConfigError);
}

}  // namespace
}  // namespace braid
