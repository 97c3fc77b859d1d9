#include "report/criteria.h"

#include <cmath>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "report/comparison.h"
#include "report/comparison_page.h"
#include "tests/report/compared_runs.h"
#include "tests/report/well_formed.h"

namespace braid {
namespace {

using testing::arm;

// An arm whose runs end with these gains, and with their loss 2 + gain / 10.
ArmRuns arm_with_gains(const std::string& name, const std::vector<double>& gains) {
  std::vector<double> losses;
  for (const double gain : gains) {
    losses.push_back(2 + gain / 10);
  }
  auto result = arm(name, losses);
  for (std::size_t i = 0; i < gains.size(); ++i) {
    result.runs[i].training = {{"gain", {1, 4}, {1, gains[i]}}};
  }
  return result;
}

Comparison checked(std::vector<ArmRuns> arms, const std::vector<Criterion>& criteria) {
  auto comparison = compare(std::move(arms), {.target_from_base = true}, "", "");
  add_numbers(comparison, {{.name = "gain", .metric = "gain"}});
  check_criteria(comparison, criteria);
  return comparison;
}

std::string line_of(const Comparison& comparison, std::size_t i) {
  return criterion_text(comparison.criteria[i]) + ": " + outcome_text(comparison.criteria[i]);
}

TEST(Criteria, MeansAreJudgedAndSeedsCounted) {
  const auto comparison =
      checked({arm_with_gains("mhc", {1, 2, 1.5}), arm_with_gains("hc", {6, 6, 3})},
              {{.arm = "hc", .number = "gain", .above = 4.5},
               {.arm = "hc", .number = "gain", .over = "mhc", .above = 3},
               {.arm = "hc", .number = "gain", .over = "mhc", .above = 1, .below = 4},
               {.arm = "hc", .number = "loss", .minus = "mhc", .below = 0},
               {.arm = "mhc", .number = "tokens", .below = 500}});
  EXPECT_EQ(line_of(comparison, 0), "gain of hc: 5, above 4.5: holds (in 2 of 3 seeds)");
  // 15 / 4.5, not the mean of 6, 3 and 2.
  EXPECT_EQ(line_of(comparison, 1), "gain of hc over mhc: 3.333, above 3: holds (in 1 of 3 seeds)");
  EXPECT_EQ(line_of(comparison, 2),
            "gain of hc over mhc: 3.333, between 1 and 4: holds (in 2 of 3 seeds)");
  EXPECT_EQ(line_of(comparison, 3),
            "loss of hc minus mhc: 0.35, below 0: does not hold (in 0 of 3 seeds)");
  EXPECT_EQ(line_of(comparison, 4), "tokens of mhc: 400, below 500: holds (in 3 of 3 seeds)");
  EXPECT_EQ(criteria_summary(comparison), "4 of 5 criteria hold");
}

TEST(Criteria, OfAGapTheShareIsJudged) {
  const auto comparison =
      checked({arm_with_gains("never", {1, 2}),
               arm_with_gains("after", {5, 8}),
               arm_with_gains("last", {2, 6}),
               arm_with_gains("same", {6, 7})},
              {{.arm = "last", .number = "gain", .over = "never", .minus = "after", .above = 0.4},
               {.arm = "last", .number = "gain", .over = "same", .minus = "after", .above = 0}});
  // (4 - 6.5) / (1.5 - 6.5); 3 / 4 and 2 / 6 in the seeds.
  EXPECT_EQ(line_of(comparison, 0),
            "gain of (last minus after) over (never minus after): 0.5, above 0.4: holds (in 1 of 2 "
            "seeds)");
  EXPECT_EQ(comparison.criteria[1].reason, "the means of same and after are equal");
}

TEST(Criteria, VerdictsAreComparedWithWhatWasExpected) {
  const auto comparison = checked(
      {arm("base", {2.0, 2.4, 2.2}), arm("lower", {1.9, 2.31, 2.1}), arm("same", {2.1, 2.3, 2.21})},
      {{.arm = "lower", .verdict = ExpectedVerdict::kBetter},
       {.arm = "same", .verdict = ExpectedVerdict::kWorse},
       {.arm = "same", .verdict = ExpectedVerdict::kNoDifference}});
  EXPECT_EQ(line_of(comparison, 0), "verdict of lower: better, expected better: holds");
  EXPECT_EQ(line_of(comparison, 1),
            "verdict of same: no difference seen at n = 3, expected worse: does not hold");
  EXPECT_EQ(comparison.criteria[2].outcome, Outcome::kHolds);
}

TEST(Criteria, WhatIsNotThereIsNotKnown) {
  auto failed = arm_with_gains("failed", {5});
  failed.runs[0].state = "failed";
  auto partly = arm_with_gains("partly", {5, 6});
  partly.runs[1].training.clear();
  const auto comparison =
      checked({arm_with_gains("base", {0, 0}), failed, partly, arm_with_gains("slow", {-1, 4})},
              {{.arm = "failed", .number = "gain", .above = 1},
               {.arm = "base", .number = "gain", .over = "failed", .above = 1},
               {.arm = "partly", .number = "gain", .above = 1},
               {.arm = "partly", .number = "loss", .above = 1},
               {.arm = "slow", .number = "gain", .over = "base", .above = 1},
               {.arm = "slow", .number = "tokens_to_target", .above = 1},
               {.arm = "failed", .verdict = ExpectedVerdict::kBetter},
               {.arm = "gone", .number = "gain", .above = 1}});
  EXPECT_EQ(line_of(comparison, 0), "gain of failed, above 1: not known: no run of failed counts");
  EXPECT_EQ(line_of(comparison, 1),
            "gain of base over failed, above 1: not known: no run of failed counts");
  EXPECT_EQ(line_of(comparison, 2),
            "gain of partly, above 1: not known: only 1 of 2 runs of partly have a gain");
  EXPECT_EQ(comparison.criteria[3].outcome, Outcome::kHolds);
  EXPECT_EQ(comparison.criteria[4].reason, "the mean of base is 0");
  EXPECT_EQ(comparison.criteria[5].reason, "only 1 of 2 runs of slow have a tokens_to_target");
  EXPECT_EQ(line_of(comparison, 6),
            "verdict of failed: not judged, expected better: not known: no run of this arm counts");
  EXPECT_EQ(comparison.criteria[7].reason, "there is no arm gone");
  EXPECT_EQ(criteria_summary(comparison), "1 of 8 criteria hold, 7 are not known");
}

TEST(Criteria, ATableThatIsNotWholeSaysSo) {
  auto going_on = arm_with_gains("hc", {5, 6, 7});
  going_on.runs[2].state = "running";
  const auto comparison = checked({going_on}, {{.arm = "hc", .number = "gain", .above = 1}});
  EXPECT_EQ(line_of(comparison, 0),
            "gain of hc: 5.5, above 1: holds (in 2 of 2 seeds; 2 of 3 runs count)");
}

TEST(Criteria, StandBelowTheTableAndOnThePage) {
  const auto comparison = checked({arm_with_gains("mhc", {1, 2}), arm_with_gains("h<c", {6, 6})},
                                  {{.arm = "h<c", .number = "gain", .over = "mhc", .above = 3},
                                   {.arm = "mhc", .number = "gain", .below = 1}});
  const auto table = comparison_markdown(comparison);
  EXPECT_TRUE(
      table.ends_with("\n\n## Criteria\n\n"
                      "- gain of h<c over mhc: 4, above 3: holds (in 1 of 2 seeds)\n"
                      "- gain of mhc: 1.5, below 1: does not hold (in 0 of 2 seeds)\n"
                      "\n1 of 2 criteria hold.\n"))
      << table;
  const auto html = comparison_page(comparison);
  EXPECT_EQ(testing::problem_of_xml(html), "");
  EXPECT_NE(html.find("gain of h&lt;c over mhc: 4, above 3"), std::string::npos);
  EXPECT_NE(html.find("1 of 2 criteria hold."), std::string::npos);
  const auto json = nlohmann::json::parse(comparison_json(comparison));
  EXPECT_EQ(json["criteria"][0]["found"], 4);
  EXPECT_EQ(json["criteria"][0]["outcome"], "holds");
  EXPECT_EQ(json["criteria"][0]["seeds_holding"], 1);
  EXPECT_EQ(json["criteria"][1]["below"], 1);
  EXPECT_EQ(json["criteria"][1]["above"], nullptr);
  EXPECT_EQ(json["criteria"][1]["verdict"], nullptr);
}

}  // namespace
}  // namespace braid
