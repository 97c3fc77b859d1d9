#include "report/comparison.h"

#include <cmath>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/random.h"
#include "tests/report/compared_runs.h"

namespace braid {
namespace {

using testing::arm;
using testing::simulated_run;

TEST(Comparison, IntervalsOfSimulatedSweepsHoldTheTrueDifference) {
  constexpr int kTrials = 2000;
  constexpr double kTruth = -0.03;
  int held = 0;
  for (uint64_t trial = 0; trial < kTrials; ++trial) {
    const uint64_t key = random_key(trial, "sweep");
    std::vector<double> base, other;
    for (uint64_t seed = 0; seed < 3; ++seed) {
      const double common = 2 + 0.1 * random_normal(key, 3 * seed);
      base.push_back(common + 0.02 * random_normal(key, 3 * seed + 1));
      other.push_back(common + kTruth + 0.02 * random_normal(key, 3 * seed + 2));
    }
    const auto comparison = compare({arm("base", base), arm("other", other)}, {}, "", "");
    held += comparison.arms[1].difference->t->contains(kTruth) ? 1 : 0;
  }
  EXPECT_GE(held, kTrials * 93 / 100);
  EXPECT_LE(held, kTrials * 97 / 100);
}

TEST(Comparison, VerdictsGoByThePairedDifferences) {
  const auto comparison = compare({arm("base", {2.0, 2.4, 2.2}),
                                   arm("lower", {1.9, 2.31, 2.1}),
                                   arm("higher", {2.11, 2.5, 2.31}),
                                   arm("same", {2.1, 2.3, 2.21})},
                                  {},
                                  "",
                                  "");
  EXPECT_EQ(comparison.arms[0].verdict, Verdict::kBase);
  EXPECT_EQ(comparison.arms[1].verdict, Verdict::kBetter);
  EXPECT_EQ(comparison.arms[2].verdict, Verdict::kWorse);
  EXPECT_EQ(comparison.arms[3].verdict_text(), "no difference seen at n = 3");
  EXPECT_TRUE(comparison.arms[1].difference->paired);
}

TEST(Comparison, HigherIsBetterForAccuracies) {
  EXPECT_TRUE(higher_is_better("reward_accuracy"));
  EXPECT_FALSE(higher_is_better("bits_per_byte"));
  const auto comparison = compare(
      {arm("base", {0.5, 0.6}), arm("higher", {0.7, 0.8})}, {.higher_is_better = true}, "", "");
  EXPECT_EQ(comparison.arms[1].verdict, Verdict::kBetter);
}

// An interval without 0 is found by chance once in twenty arms; all of them are judged together.
TEST(Comparison, ManyArmsNeedStrongerEvidence) {
  std::vector<ArmRuns> arms = {arm("base", {2, 2, 2}), arm("one", {1.99, 1.98, 1.985})};
  const double alone = compare(arms, {}, "", "").arms[1].difference->p;
  ASSERT_LT(alone, 0.05);
  for (int i = 0; i < 9; ++i) {
    arms.push_back(arm("other" + std::to_string(i), {2.1, 1.9, 2}));
  }
  const auto comparison = compare(arms, {}, "", "");
  EXPECT_NEAR(comparison.arms[1].adjusted_p, std::min(1.0, 10 * alone), 1e-12);
  EXPECT_EQ(comparison.arms[1].verdict, Verdict::kNoDifference);
  EXPECT_NE(comparison.arms[1].reason.find("for 10 arms together"), std::string::npos);
}

TEST(Comparison, OtherSeedsAreComparedWithoutPairs) {
  auto other = arm("other", {1.9, 2.0});
  for (auto& run : other.runs) {
    run.seed += 100;
  }
  const auto comparison = compare({arm("base", {2.0, 2.1}), other}, {}, "", "");
  EXPECT_FALSE(comparison.arms[1].difference->paired);
}

TEST(Comparison, SeedsThatBothArmsHaveArePaired) {
  const auto comparison =
      compare({arm("base", {2.0, 2.1, 5.0}), arm("other", {1.9, 2.0})}, {}, "", "");
  const auto& difference = *comparison.arms[1].difference;
  EXPECT_TRUE(difference.paired);
  EXPECT_EQ(difference.n, 2);
  EXPECT_NEAR(difference.mean, -0.1, 1e-12);
}

TEST(Comparison, UnfinishedAndFailedRunsAreInNoMean) {
  auto other = arm("other", {1.9, 2.0, 1.0, 1.0});
  other.runs[2].state = "stopped";
  other.runs[3].state = "failed";
  other.runs[3].problem = "the loss is NaN";
  const auto comparison = compare({arm("base", {2.0, 2.1, 2.0, 2.0}), other}, {}, "", "");
  EXPECT_EQ(comparison.arms[1].value.n, 2);
  const auto table = comparison_markdown(comparison);
  EXPECT_NE(table.find("run-seed3 (other) is not counted: stopped at step 4 of 4"),
            std::string::npos)
      << table;
  EXPECT_NE(table.find("failed after step 4: the loss is NaN"), std::string::npos) << table;
}

TEST(Comparison, AtAStepUnfinishedRunsCount) {
  auto other = arm("other", {1.9, 2.0});
  other.runs[1].state = "running";
  other.runs[1].max_steps = 100;
  const auto comparison = compare({arm("base", {2.0, 2.1}), other}, {.at_step = 2}, "", "");
  EXPECT_EQ(comparison.arms[1].value.n, 2);
  EXPECT_NEAR(comparison.arms[1].value.mean, 1.95 + 2, 1e-12);
  EXPECT_EQ(comparison.arms[1].spent.tokens.mean, 200);
}

TEST(Comparison, TheTargetsCostIsInterpolated) {
  // 5, 4, 3, 2 after 100, ..., 400 tokens.
  const auto comparison = compare({arm("base", {2}), arm("never", {3})}, {.target = 2.25}, "", "");
  EXPECT_NEAR(comparison.arms[0].target.tokens.mean, 375, 1e-9);
  EXPECT_NEAR(comparison.arms[0].target.flops.mean, 3.75e6, 1e-3);
  EXPECT_EQ(comparison.arms[1].target.tokens.n, 0);
}

TEST(Comparison, TheBasesTargetIsWhatAllItsRunsReach) {
  const auto comparison =
      compare({arm("base", {2, 2.5}), arm("other", {1.5, 2})}, {.target_from_base = true}, "", "");
  EXPECT_EQ(comparison.judge.target, 2.5);
  EXPECT_EQ(comparison.arms[0].target.tokens.n, 2);
  EXPECT_EQ(comparison.arms[1].target.tokens.n, 2);
}

TEST(Comparison, TheBestValueMayBeJudgedInsteadOfTheLast) {
  auto base = arm("base", {2, 2});
  base.runs[0].validation[0].series[0].values = {4, 1, 3, 2};
  EXPECT_EQ(compare({base}, {.best = true}, "", "").arms[0].value.mean, 1.5);
  EXPECT_EQ(compare({base}, {}, "", "").arms[0].value.mean, 2);
}

TEST(Comparison, ALossThatIsNotFiniteIsNotCounted) {
  auto base = arm("base", {2, std::nan("")});
  const auto comparison = compare({base}, {}, "", "");
  EXPECT_EQ(comparison.arms[0].value.n, 1);
  EXPECT_EQ(comparison.arms[0].runs[1].not_counted, "its loss is not finite");
}

TEST(Comparison, WithoutValidationTheLastTenthOfTrainingIsJudged) {
  auto base = arm("base", {2});
  auto& run = base.runs[0];
  run.validation.clear();
  Series losses{"loss", {}, {}};
  for (int64_t step = 1; step <= 20; ++step) {
    losses.steps.push_back(step);
    losses.values.push_back(static_cast<double>(step));
  }
  run.training = {losses};
  const auto comparison = compare({base}, {}, "", "");
  EXPECT_EQ(comparison.arms[0].value.mean, 19.5);
  EXPECT_FALSE(comparison.notes.empty());
}

TEST(Comparison, RunsThatDifferInTheirSeedAloneAreAnArm) {
  const auto run = [](int64_t seed, const std::string& residual) {
    const auto number = std::to_string(seed);
    return simulated_run(seed,
                         2,
                         "run: {name: a" + number + ", seed: " + number + "}\nmodel: {residual: " +
                             residual + "}\nlogging: {every_steps: " + number + "}");
  };
  std::vector<std::string> notes;
  const auto arms =
      arms_of({run(1, "plain"), run(1, "mhc"), run(2, "plain"), run(2, "mhc")}, {}, notes);
  ASSERT_EQ(arms.size(), 2);
  EXPECT_EQ(arms[0].name, "residual=plain");
  EXPECT_EQ(arms[1].name, "residual=mhc");
  EXPECT_EQ(arms[0].runs.size(), 2);
  EXPECT_TRUE(notes.empty());
}

TEST(Comparison, RunsAreGroupedByTheKeysAskedFor) {
  std::vector<std::string> notes;
  const auto arms = arms_of({simulated_run(1, 2, "model: {a: 1, b: 1}"),
                             simulated_run(2, 2, "model: {a: 1, b: 2}"),
                             simulated_run(3, 2, "model: {a: 2, b: 1}")},
                            {"model.a"},
                            notes);
  ASSERT_EQ(arms.size(), 2);
  EXPECT_EQ(arms[0].name, "a=1");
  ASSERT_EQ(notes.size(), 1);
  EXPECT_EQ(notes[0], "runs of a=1 differ in model.b");
}

TEST(Comparison, WhatIsNotThereIsNamed) {
  const auto message_of = [](const auto& action) {
    try {
      action();
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  const std::vector<ArmRuns> arms = {arm("base", {2})};
  EXPECT_NE(message_of([&] { compare(arms, {}, "bse", ""); }).find("the arms are: base"),
            std::string::npos);
  EXPECT_NE(message_of([&] { compare(arms, {.key = "lss"}, "", ""); }).find("there are: loss"),
            std::string::npos);
  EXPECT_NE(message_of([&] { compare(arms, {.set = "code"}, "", ""); }).find("set 'code'"),
            std::string::npos);
  EXPECT_NE(message_of([&] { compare({}, {}, "", ""); }).find("no runs"), std::string::npos);
}

TEST(Comparison, MarkdownHasARowForEachArm) {
  const auto table = comparison_markdown(
      compare({arm("base", {2.0, 2.4}), arm("a|b", {1.9, 2.31})}, {.target = 2.5}, "", "Title"));
  EXPECT_TRUE(table.starts_with("# Title\n\n| arm ")) << table;
  EXPECT_NE(table.find("| base "), std::string::npos) << table;
  EXPECT_NE(table.find("| a\\|b "), std::string::npos) << table;
  EXPECT_NE(table.find("tokens to 2.5000"), std::string::npos) << table;
  EXPECT_NE(table.find("2.2000 ± 0.2828"), std::string::npos) << table;
}

TEST(Comparison, CsvQuotesAndLeavesOutWhatIsNotThere) {
  const auto comparison = compare({arm("base", {2}), arm("a,b", {1.5})}, {}, "", "");
  const auto csv = comparison_csv(comparison);
  EXPECT_NE(csv.find("\"a,b\",1,1.5,,-0.5,,,1,1,not judged,400,"), std::string::npos) << csv;
  const auto runs = comparison_runs_csv(comparison);
  EXPECT_NE(runs.find("\"a,b\",run-seed1,1,finished,4,1.5,400,"), std::string::npos) << runs;
}

TEST(Comparison, JsonHasEveryNumber) {
  const auto json = nlohmann::json::parse(
      comparison_json(compare({arm("base", {2.0, 2.4}), arm("other", {1.9, 2.31})}, {}, "", "t")));
  EXPECT_EQ(json["base"], "base");
  EXPECT_EQ(json["arms"][1]["difference"]["n"], 2);
  EXPECT_EQ(json["arms"][1]["runs"][0]["value"], 1.9);
  EXPECT_EQ(json["arms"][0]["difference"], nullptr);
}

}  // namespace
}  // namespace braid
