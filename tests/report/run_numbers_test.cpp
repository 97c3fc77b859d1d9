#include "report/run_numbers.h"

#include <cmath>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "report/comparison.h"
#include "tests/report/compared_runs.h"

namespace braid {
namespace {

using testing::arm;

// A run of 20 steps whose metric is given at every fifth.
ArmRuns measured(const std::string& name, const std::vector<double>& values) {
  auto result = arm(name, {2});
  auto& run = result.runs.front();
  run.training = {{"gain", {}, values}};
  for (std::size_t i = 0; i < values.size(); ++i) {
    run.training.front().steps.push_back(5 * static_cast<int64_t>(i + 1));
  }
  return result;
}

Summary number_of(const ArmRuns& runs, RunNumber number, const Judge& judge = {}) {
  auto comparison = compare({runs}, judge, "", "");
  number.name = "x";
  add_numbers(comparison, {number});
  return comparison.arms.front().numbers.front();
}

TEST(RunNumbers, AreTakenOfAMetricsValues) {
  const auto run = measured("a", {3, 9, 1, 4});
  EXPECT_EQ(number_of(run, {.metric = "gain"}).mean, 4);
  EXPECT_EQ(number_of(run, {.metric = "gain", .take = Take::kLargest}).mean, 9);
  EXPECT_EQ(number_of(run, {.metric = "gain", .take = Take::kSmallest}).mean, 1);
  std::vector<double> many(20, 1);
  many[18] = 3;
  many[19] = 4;
  EXPECT_EQ(number_of(measured("a", many), {.metric = "gain", .take = Take::kLastTenth}).mean, 3.5);
}

TEST(RunNumbers, MayBeOfPartOfTheSteps) {
  const auto run = measured("a", {3, 9, 1, 4});
  EXPECT_EQ(number_of(run, {.metric = "gain", .steps = {0, 10}}).mean, 9);
  EXPECT_EQ(number_of(run, {.metric = "gain", .take = Take::kLargest, .steps = {11, 20}}).mean, 4);
  EXPECT_EQ(number_of(run, {.metric = "gain", .steps = {6, 9}}).n, 0);
  EXPECT_EQ(number_of(run, {.metric = "gain"}, {.at_step = 2}).n, 0);
}

TEST(RunNumbers, TrainingComesFirstUnlessASetIsNamed) {
  auto run = arm("a", {2});
  run.runs[0].training = {{"loss", {4}, {7}}};
  run.runs[0].validation[0].set = "text";
  run.runs[0].validation.push_back({"code", {{"loss", {4}, {5}}, {"accuracy", {4}, {0.5}}}});
  EXPECT_EQ(number_of(run, {.metric = "loss"}).mean, 7);
  EXPECT_EQ(number_of(run, {.metric = "loss", .set = "text"}).mean, 2);
  EXPECT_EQ(number_of(run, {.metric = "loss", .set = "code"}).mean, 5);
  // Of validation, the set that runs are judged by.
  EXPECT_EQ(number_of(run, {.metric = "accuracy"}).n, 0);
  EXPECT_EQ(number_of(run, {.metric = "accuracy"}, {.set = "code"}).mean, 0.5);
}

TEST(RunNumbers, AreMissingWhereNotFinite) {
  const double nan = std::nan("");
  EXPECT_EQ(number_of(measured("a", {1, nan}), {.metric = "gain"}).n, 0);
  EXPECT_EQ(number_of(measured("a", {nan, 1}), {.metric = "gain"}).n, 1);
  // The largest of values of which one is not known is not known.
  EXPECT_EQ(number_of(measured("a", {nan, 1}), {.metric = "gain", .take = Take::kLargest}).n, 0);
}

TEST(RunNumbers, AreColumnsOfEveryTable) {
  auto a = arm("a", {2, 3}), b = arm("b", {2, 3});
  for (std::size_t i = 0; i < 2; ++i) {
    a.runs[i].training = {{"gain", {4}, {10.0 + static_cast<double>(i)}}};
  }
  b.runs[0].training = {{"gain", {4}, {0.5}}};
  auto comparison = compare({a, b}, {}, "", "");
  add_numbers(comparison, {{.name = "end", .metric = "gain"}, {.name = "no", .metric = "gian"}});
  const auto table = comparison_markdown(comparison);
  for (const auto* part : {" end |",
                           "10.5 ± 0.71 |",
                           " 0.5 (1 run) |",
                           "end: 1 of 2 runs of b have a finite gain",
                           "no: no run has a finite gian; did you mean 'gain'?"}) {
    EXPECT_NE(table.find(part), std::string::npos) << part << "\n" << table;
  }
  const auto csv = comparison_csv(comparison), runs = comparison_runs_csv(comparison);
  EXPECT_NE(csv.find(",note,end,end_sd,no,no_sd\n"), std::string::npos) << csv;
  EXPECT_NE(csv.find(",0.5,,,\n"), std::string::npos) << csv;
  EXPECT_NE(runs.find(",not_counted,end,no\n"), std::string::npos) << runs;
  EXPECT_NE(runs.find(",11,\n"), std::string::npos) << runs;
  const auto json = nlohmann::json::parse(comparison_json(comparison));
  EXPECT_EQ(json["numbers"][0]["metric"], "gain");
  EXPECT_EQ(json["numbers"][0]["take"], "last");
  EXPECT_EQ(json["arms"][0]["numbers"]["end"]["mean"], 10.5);
  EXPECT_EQ(json["arms"][1]["runs"][1]["numbers"]["end"], nullptr);
}

TEST(RunNumbers, AreReadFromTheCommandLine) {
  const auto plain = run_number_of("gain=residual_gain.forward_max");
  EXPECT_EQ(plain.name, "gain");
  EXPECT_EQ(plain.metric, "residual_gain.forward_max");
  EXPECT_EQ(plain.take, Take::kLast);
  EXPECT_EQ(run_number_of("gain=x:largest").take, Take::kLargest);
  EXPECT_EQ(run_number_of("gain=x:largest").metric, "x");
  for (const auto* wrong : {"gain", "=x", "gain=", "gain=:last", "gain=x:most"}) {
    EXPECT_THROW(run_number_of(wrong), Error) << wrong;
  }
}

}  // namespace
}  // namespace braid
