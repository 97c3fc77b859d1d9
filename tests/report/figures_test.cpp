#include <cmath>
#include <limits>
#include <regex>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "report/heat_map.h"
#include "report/interval_plot.h"
#include "report/line_plot.h"
#include "tests/report/well_formed.h"

namespace braid {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

LinePlot plot_of(const std::vector<double>& y) {
  Line line{{{}, {}}, y, {}, {}};
  for (std::size_t i = 0; i < y.size(); ++i) {
    line.x[0].push_back(100.0 * static_cast<double>(i + 1));
    line.x[1].push_back(static_cast<double>(i + 1));
  }
  LinePlot plot{"loss",
                "Loss",
                "",
                {{"tokens", "training tokens", NumberStyle::kCount}, {"steps", "steps"}},
                "nats",
                false,
                {},
                {}};
  plot.series.push_back({"training", 0, {line}});
  return plot;
}

std::size_t count_of(const std::string& text, const std::string& what) {
  std::size_t count = 0;
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) {
    ++count;
  }
  return count;
}

std::string path_of(const std::string& figure, const std::string& element_class) {
  std::smatch found;
  const std::regex path("<path class=\"" + element_class + "\" d=\"([^\"]*)\"");
  // The legend's swatches come first.
  const auto drawing = figure.find("class=\"lines\"");
  const auto rest = figure.substr(drawing == std::string::npos ? 0 : drawing);
  return std::regex_search(rest, found, path) ? found[1].str() : "none";
}

nlohmann::json data_in(const std::string& figure) {
  const std::string begin = "<script type=\"application/json\">";
  const auto at = figure.find(begin) + begin.size();
  return nlohmann::json::parse(figure.substr(at, figure.find("</script>", at) - at));
}

TEST(LinePlot, GoesThroughItsPoints) {
  const auto figure = figure_of(plot_of({0, 1}), 0);
  EXPECT_EQ(testing::problem_of_xml(figure), "");
  // x from 0 to 200; y from 0 to 1.04.
  EXPECT_EQ(path_of(figure, "line"), "M5000 10000L10000 385");
  const auto data = data_in(figure);
  // Half of the way, and the other half; steps lie as tokens do.
  EXPECT_EQ(data.at("series")[0].at("lines")[0].at("x")[0], (std::vector<int>{5000, 5000}));
  EXPECT_EQ(data.at("series")[0].at("lines")[0].at("x")[1], 0);
  EXPECT_EQ(data.at("series")[0].at("lines")[0].at("y"), (std::vector<double>{0, 1}));
}

TEST(LinePlot, MissingValuesAreGapsAndNullForTheScript) {
  const auto figure = figure_of(plot_of({1, kNaN, 2, 3, kNaN}), 0);
  const auto path = path_of(figure, "line");
  EXPECT_EQ(count_of(path, "M"), 2u) << path;
  EXPECT_EQ(count_of(path, "L"), 1u) << path;
  EXPECT_EQ(count_of(path, "h0"), 1u) << path;  // a point alone is a dot
  EXPECT_TRUE(data_in(figure).at("series")[0].at("lines")[0].at("y")[1].is_null());
}

TEST(LinePlot, OfOnePointIsADot) {
  const auto figure = figure_of(plot_of({2.5}), 0);
  EXPECT_EQ(testing::problem_of_xml(figure), "");
  EXPECT_EQ(path_of(figure, "line"), "M10000 5000h0");
}

TEST(LinePlot, WithoutAPointIsNotDrawn) {
  EXPECT_FALSE(has_points(plot_of({})));
  EXPECT_FALSE(has_points(plot_of({kNaN, kNaN})));
  EXPECT_TRUE(has_points(plot_of({kNaN, 1})));
  EXPECT_THROW(figure_of(plot_of({kNaN}), 0), Error);
}

TEST(LinePlot, HasALogarithmicAxisWhereAllValuesArePositive) {
  auto plot = plot_of({1, 10, 100});
  plot.log_y = true;
  EXPECT_NE(figure_of(plot, 0).find(">10</text>"), std::string::npos);
  EXPECT_TRUE(data_in(figure_of(plot, 0)).at("y")[0][0][1].is_object());
  auto other = plot_of({0, 10, 100});
  other.log_y = true;
  EXPECT_TRUE(data_in(figure_of(other, 0)).at("y")[0][0][1].is_null());
}

TEST(LinePlot, NamesFewLinesAtTheirEndsAndManyInTheLegendAlone) {
  auto plot = plot_of({1, 2});
  plot.series.push_back({"validation <i>", 1, plot.series.front().lines, /*has_dots=*/true});
  auto figure = figure_of(plot, 0);
  EXPECT_EQ(testing::problem_of_xml(figure), "");
  EXPECT_EQ(count_of(figure, "validation &lt;i&gt;"), 3u);  // description, legend, end of the line
  EXPECT_EQ(count_of(figure, "<circle"), 3u);               // two points, and the legend's
  for (int i = 2; i < 12; ++i) {
    plot.series.push_back({"line " + std::to_string(i), i, plot.series.front().lines});
  }
  figure = figure_of(plot, 0);
  EXPECT_EQ(figure.find("class=\"ends\""), std::string::npos);
  EXPECT_EQ(count_of(figure, "<button"), 12u);
  EXPECT_NE(figure.find("c1 again"), std::string::npos);  // colours return with another dash
}

TEST(LinePlot, DrawsTheBandBetweenItsSides) {
  auto plot = plot_of({1, 2, kNaN, 4});
  auto& line = plot.series.front().lines.front();
  line.low = {0, 1, kNaN, 3};
  line.high = {2, 3, kNaN, 5};
  const auto figure = figure_of(plot, 0);
  const auto band = path_of(figure, "band");
  EXPECT_EQ(count_of(band, "M"), 2u) << band;
  EXPECT_EQ(count_of(band, "Z"), 2u) << band;
}

TEST(LinePlot, DescribesItselfToThoseWhoHearIt) {
  const auto figure = figure_of(plot_of({5.5, 2.25, 3}), 0);
  EXPECT_NE(figure.find("training: from 5.5 at 100 to 3 at 300, lowest 2.25, highest 5.5."),
            std::string::npos)
      << figure;
  EXPECT_NE(figure.find("role=\"img\" aria-labelledby=\"loss-title loss-text\""),
            std::string::npos);
}

TEST(LinePlot, TenRunsOfManyStepsStaySmall) {
  std::vector<double> y;
  for (int i = 0; i < 100000; ++i) {
    y.push_back(2 + std::sin(0.37 * i) + 3 * std::exp(-1e-4 * i));
  }
  y[54321] = 9;
  auto plot = plot_of(y);
  const auto lines = plot.series.front().lines;
  plot.series.clear();
  for (int i = 0; i < 10; ++i) {
    plot.series.push_back({"run " + std::to_string(i), i, {lines[0], lines[0], lines[0]}});
  }
  const auto figure = figure_of(plot, 0);
  EXPECT_LT(figure.size(), 120000u);
  // The spike is there, and its values.
  EXPECT_NE(figure.find("highest 9."), std::string::npos);
  const auto values = data_in(figure).at("series")[9].at("lines")[0].at("y");
  EXPECT_NE(std::find(values.begin(), values.end(), 9), values.end());
}

TEST(LinePlot, RefusesPointsThatDoNotFit) {
  auto plot = plot_of({1, 2});
  plot.series.front().lines.front().x.pop_back();
  EXPECT_THROW(figure_of(plot, 0), Error);
  plot = plot_of({1, 2});
  plot.series.front().lines.front().y.push_back(3);
  EXPECT_THROW(figure_of(plot, 0), Error);
  plot = plot_of({1, 2});
  plot.series.front().lines.front().low = {1, 2};
  EXPECT_THROW(figure_of(plot, 0), Error);
}

TEST(IntervalPlot, ShowsEachRowWithItsNumbers) {
  const IntervalPlot plot{"d",
                          "Differences",
                          "",
                          "difference in loss",
                          {{"a <b>", -0.03, -0.05, -0.01, "better"},
                           {"one seed", 0.5, kNaN, kNaN, ""},
                           {"failed", kNaN, kNaN, kNaN, "not judged"}}};
  const auto figure = figure_of(plot);
  EXPECT_EQ(testing::problem_of_xml(figure), "");
  EXPECT_NE(figure.find("aria-label=\"a &lt;b&gt;: -0.03 [-0.05, -0.01], better\""),
            std::string::npos)
      << figure;
  EXPECT_EQ(count_of(figure, "<circle"), 2u);
  EXPECT_EQ(count_of(figure, "tabindex=\"0\""), 3u);
  EXPECT_NE(figure.find("failed: no value"), std::string::npos);
}

TEST(HeatMap, HasAPathForEachColourAndBlanksForMissingValues) {
  HeatMap map{"h",
              "Entropy",
              "",
              "tokens",
              "nats",
              NumberStyle::kCount,
              {"0", "1"},
              {1, 2, 3},
              {{0, 0, 1}, {1, kNaN, 0}}};
  const auto figure = figure_of(map);
  EXPECT_EQ(testing::problem_of_xml(figure), "");
  EXPECT_EQ(path_of(figure.substr(figure.find("class=\"cells\"")), "h0"),
            "M0 0h2v1h-2zM2 1h1v1h-1z");
  EXPECT_EQ(path_of(figure.substr(figure.find("class=\"cells\"")), "h11"),
            "M2 0h1v1h-1zM0 1h1v1h-1z");
  EXPECT_TRUE(data_in(figure).at("values")[1][1].is_null());
  map.values.pop_back();
  EXPECT_THROW(figure_of(map), Error);
}

TEST(HeatMap, OfManyPointsShowsMeans) {
  HeatMap map{"h", "E", "", "tokens", "nats", NumberStyle::kCount, {"0"}, {}, {{}}};
  for (int i = 0; i < 9600; ++i) {
    map.x.push_back(i);
    map.values[0].push_back(i % 100);
  }
  const auto data = data_in(figure_of(map));
  ASSERT_EQ(data.at("x").size(), 96u);
  EXPECT_NEAR(data.at("values")[0][7], 49.5, 1e-9);
  EXPECT_FALSE(has_points(HeatMap{}));
}

}  // namespace
}  // namespace braid
