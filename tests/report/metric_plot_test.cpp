#include "report/metric_plot.h"

#include <cmath>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/file.h"
#include "report/svg_plot.h"
#include "tests/core/fresh_folder.h"
#include "tests/report/compared_runs.h"
#include "tests/report/well_formed.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using testing::arm;

// Two arms of two seeds, with training losses of 40 steps and a number of the monitors.
Comparison two_arms() {
  std::vector<ArmRuns> arms = {arm("a <1>", {2, 2.5}), arm("b", {1.5, 2})};
  for (auto& one : arms) {
    for (auto& run : one.runs) {
      Series losses{"loss", {}, {}};
      run.steps.clear();
      run.tokens.clear();
      run.seconds.clear();
      run.flops.clear();
      for (int64_t step = 1; step <= 40; ++step) {
        const auto at = static_cast<double>(step);
        run.steps.push_back(step);
        run.tokens.push_back(100 * at);
        run.flops.push_back(std::nan(""));
        run.seconds.push_back(at);
        losses.steps.push_back(step);
        losses.values.push_back(2 + static_cast<double>(run.seed) / at);
      }
      run.training = {losses, {"gradient_norm.router", {10, 20}, {1, 100}}};
    }
  }
  return compare(std::move(arms), {}, "", "Title");
}

std::size_t count_of(const std::string& part, const std::string& text) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++count;
  }
  return count;
}

std::string error_of(const Comparison& comparison, const MetricPlot& what) {
  try {
    svg_of_arms(comparison, what);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(MetricPlot, IsAFileThatStandsAlone) {
  const auto svg = svg_of_arms(two_arms(), {.metric = "loss"});
  EXPECT_EQ(testing::problem_of_xml(svg), "");
  EXPECT_TRUE(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\"")) << svg;
  for (const auto* foreign : {"var(", "class=", "<script", "href", "vector-effect"}) {
    EXPECT_EQ(svg.find(foreign), std::string::npos) << foreign;
  }
  for (const auto* part : {">Title: Loss, training</text>",
                           ">a &lt;1&gt;</text>",
                           ">training tokens</text>",
                           ">nats per target</text>",
                           "bands: lowest to highest seed.",
                           "fill=\"#ffffff\""}) {
    EXPECT_NE(svg.find(part), std::string::npos) << part << "\n" << svg;
  }
  EXPECT_EQ(count_of("fill-opacity", svg), 2u);  // bands
  EXPECT_EQ(svg, svg_of_arms(two_arms(), {.metric = "loss"}));
}

TEST(MetricPlot, IsDrawnOverTheAxisAskedFor) {
  const auto comparison = two_arms();
  const auto steps = svg_of_arms(comparison, {.metric = "loss", .axis = CurveAxis::kSteps});
  EXPECT_NE(steps.find(">training steps</text>"), std::string::npos);
  const auto time = svg_of_arms(comparison, {.metric = "loss", .axis = CurveAxis::kSeconds});
  EXPECT_NE(time.find(">time of training steps, seconds</text>"), std::string::npos);
  EXPECT_NE(error_of(comparison, {.metric = "loss", .axis = CurveAxis::kFlops})
                .find("no FLOPs to draw over; there are: tokens, seconds, steps"),
            std::string::npos);
}

TEST(MetricPlot, TakesMetricsOfTrainingFirstAndOfValidationByName) {
  const auto comparison = two_arms();
  const auto validation = svg_of_arms(comparison, {.metric = "validation/loss"});
  EXPECT_NE(validation.find(">Title: Loss, validation</text>"), std::string::npos);
  EXPECT_GT(count_of("<circle", validation), 8u);  // few points have dots
  const auto norm = svg_of_arms(comparison, {.metric = "gradient_norm.router"});
  EXPECT_NE(norm.find(">Title: Gradient norms: router</text>"), std::string::npos);
  EXPECT_NE(error_of(comparison, {.metric = "gradient_norm.ruter"})
                .find("did you mean 'gradient_norm.router'?"),
            std::string::npos);
  EXPECT_NE(error_of(comparison, {.metric = "validation/code/loss"}).find("no run that counts"),
            std::string::npos);
}

TEST(MetricPlot, BeginsAtTheStepAskedFor) {
  const auto comparison = two_arms();
  const auto later =
      svg_of_arms(comparison, {.metric = "loss", .axis = CurveAxis::kSteps, .from_step = 20});
  EXPECT_EQ(later.find(">0</text>"), std::string::npos);
  EXPECT_NE(later.find(">30</text>"), std::string::npos) << later;
  EXPECT_NE(error_of(comparison, {.metric = "loss", .from_step = 41}).find("step 41 or later"),
            std::string::npos);
}

TEST(MetricPlot, OfOneRunHasItsCurveBehind) {
  const auto comparison = two_arms();
  const auto svg = svg_of_run(comparison.arms[0].runs[0].curves, {.metric = "loss"});
  EXPECT_EQ(testing::problem_of_xml(svg), "");
  EXPECT_EQ(count_of("stroke-opacity", svg), 1u);
  EXPECT_EQ(count_of("fill-opacity", svg), 0u);
}

TEST(MetricPlot, ReplacesNothingButPlots) {
  const auto folder = testing::fresh_folder();
  const auto svg = svg_of_arms(two_arms(), {.metric = "loss"});
  write_svg(folder / "new.svg", svg);
  write_svg(folder / "new.svg", svg);
  EXPECT_EQ(read_file(folder / "new.svg"), svg);
  std::ofstream(folder / "mine.svg") << "<svg/>";
  EXPECT_THROW(write_svg(folder / "mine.svg", svg), Error);
  fs::remove_all(folder);
}

}  // namespace
}  // namespace braid
