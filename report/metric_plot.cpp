#include "report/metric_plot.h"

#include <algorithm>

#include "core/error.h"
#include "report/curve_lines.h"
#include "report/metric_name.h"
#include "report/metric_panels.h"
#include "report/number_text.h"
#include "report/page_parts.h"
#include "report/svg_plot.h"

namespace braid {
namespace {

struct NamedRuns {
  std::string name;
  std::vector<const RunCurves*> runs;
};

// Title, label and scale as on the page; of the losses, which no panel has, its own.
LinePlot empty_plot(const MetricPlot& what, const MetricName& name, const std::string& set) {
  LinePlot plot{"plot", "", "", {}, "", false, {}, {}};
  if (name.key == "loss") {
    plot.title = "Loss";
    plot.y_label = "nats per target";
  } else {
    const auto panels =
        name.of_validation ? validation_panels({name.key}) : training_panels({name.key});
    plot.title = panels.empty() ? name.key : panels.front().title;
    plot.y_label = panels.empty() ? name.key : panels.front().y_label;
    plot.log_y = !panels.empty() && panels.front().log_y;
    const auto dot = name.key.find('.');
    if (dot != std::string::npos) {
      plot.title += ": " + name.key.substr(dot + 1);
    }
  }
  if (name.of_validation) {
    plot.title += ", " + validation_name(set);
  } else if (name.key == "loss") {
    plot.title += ", training";
  }
  plot.log_y |= what.log_y;
  return plot;
}

std::vector<double> later_ones(const std::vector<double>& values, std::size_t first) {
  return {values.begin() + static_cast<std::ptrdiff_t>(std::min(first, values.size())),
          values.end()};
}

// Points from a step on. Lines are smoothed already.
void leave_out_before(LinePlot& plot, const CurveAxes& axes, int64_t from_step) {
  const auto steps = axes.index_of(CurveAxis::kSteps);
  for (auto& series : plot.series) {
    for (auto& line : series.lines) {
      const auto at = std::ranges::lower_bound(line.x[steps], static_cast<double>(from_step));
      const auto first = static_cast<std::size_t>(at - line.x[steps].begin());
      for (auto* values : {&line.y, &line.low, &line.high}) {
        *values = later_ones(*values, first);
      }
      for (auto& x : line.x) {
        x = later_ones(x, first);
      }
    }
  }
  plot.x_from_zero = from_step <= 0;
}

// Every line over the one axis that is drawn.
void keep_axis(LinePlot& plot, const CurveAxes& axes, CurveAxis axis) {
  const auto index = axes.index_of(axis);
  plot.x = {axes.x()[index]};
  for (auto& series : plot.series) {
    for (auto& line : series.lines) {
      line.x = {line.x[index]};
    }
  }
}

std::string note_of(const LinePlot& plot, std::size_t smoothing, std::size_t most_runs) {
  const bool is_smoothed = std::ranges::any_of(
      plot.series, [](const PlotSeries& series) { return series.lines.size() > 1; });
  const auto share = number_text(kSmoothing[smoothing], NumberStyle::kPercent);
  if (most_runs > 1) {
    return text("Means over seeds",
                is_smoothed ? " and over " + share + " of the steps" : "",
                "; bands: lowest to highest seed.");
  }
  return is_smoothed ? text("Means over ", share, " of the steps.") : "";
}

std::string svg_of_runs(const std::vector<NamedRuns>& arms,
                        const MetricPlot& what,
                        const std::string& judged_set,
                        const std::string& title) {
  std::vector<const RunCurves*> all;
  for (const auto& arm : arms) {
    all.insert(all.end(), arm.runs.begin(), arm.runs.end());
  }
  const auto name = MetricName::of(what.metric).settled(all);
  const CurveAxes axes(all);
  auto plot = empty_plot(what, name, name.set.empty() ? judged_set : name.set);
  plot.title = title.empty() ? plot.title : title + ": " + plot.title;
  std::size_t most_steps = 0, most_runs = 0;
  for (std::size_t i = 0; i < arms.size(); ++i) {
    std::vector<RunSeries> of_arm;
    for (const auto* run : arms[i].runs) {
      if (const auto* series = series_called(*run, name, judged_set)) {
        of_arm.push_back({run, series});
        most_steps = std::max(most_steps, run->steps.size());
      }
    }
    most_runs = std::max(most_runs, of_arm.size());
    if (!of_arm.empty()) {
      plot.series.push_back(arm_series(
          axes, arms[i].name, static_cast<int>(i), of_arm, /*smooths=*/!name.of_validation));
    }
  }
  if (!has_points(plot)) {
    const auto nearest = nearest_metric(name, all);
    fail("no run that counts has '",
         what.metric,
         "' to draw",
         nearest.empty() || nearest == name.key ? "" : "; did you mean '" + nearest + "'?");
  }
  const auto smoothing = smoothing_for(most_steps);
  plot.note = note_of(plot, smoothing, most_runs);
  for (auto& series : plot.series) {
    series.has_raw_behind = most_runs == 1 && arms.size() == 1 && series.lines.size() > 1;
  }
  leave_out_before(plot, axes, what.from_step);
  require(has_points(plot), "no run has '", what.metric, "' at step ", what.from_step, " or later");
  keep_axis(plot, axes, what.axis);
  return svg_of(plot, smoothing);
}

}  // namespace

std::string svg_of_arms(const Comparison& comparison, const MetricPlot& what) {
  std::vector<NamedRuns> arms;
  for (const auto& arm : comparison.arms) {
    arms.push_back({arm.name, arm.counted_curves()});
  }
  return svg_of_runs(arms, what, comparison.judge.set, comparison.title);
}

std::string svg_of_run(const RunCurves& run, const MetricPlot& what) {
  return svg_of_runs({{run.name, {&run}}}, what, run.judged_set(), run.name);
}

}  // namespace braid
