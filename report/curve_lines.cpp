#include "report/curve_lines.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "core/config_value.h"
#include "core/error.h"
#include "report/line_points.h"

namespace braid {
namespace {

struct TimeUnit {
  const char* name;
  double seconds;
};

TimeUnit time_unit(double longest) {
  return longest < 300         ? TimeUnit{"seconds", 1}
         : longest < 3 * 3600  ? TimeUnit{"minutes", 60}
         : longest < 72 * 3600 ? TimeUnit{"hours", 3600}
                               : TimeUnit{"days", 24 * 3600};
}

double largest_of(const std::vector<const RunCurves*>& runs, std::vector<double> RunCurves::*what) {
  double largest = 0;
  for (const auto* run : runs) {
    for (const double value : run->*what) {
      largest = std::isfinite(value) ? std::max(largest, value) : largest;
    }
  }
  return largest;
}

// Of each smoothing, the values of the series.
std::vector<std::vector<double>> at_smoothings(const std::vector<double>& values, bool smooths) {
  std::vector<std::vector<double>> result;
  for (const double share : kSmoothing) {
    if (result.empty() || smooths) {
      result.push_back(share == 0 ? values : smoothed(values, window_of(share, values.size())));
    }
  }
  return result;
}

void add_place(Line& line, const std::vector<double>& places) {
  line.x.resize(places.size());
  for (std::size_t axis = 0; axis < places.size(); ++axis) {
    line.x[axis].push_back(places[axis]);
  }
}

std::vector<double> mean_places(const CurveAxes& axes,
                                const std::vector<RunSeries>& runs,
                                int64_t step) {
  std::vector<double> mean(axes.x().size(), 0);
  for (const auto& [run, series] : runs) {
    const auto places = axes.places(*run, step);
    for (std::size_t i = 0; i < mean.size(); ++i) {
      mean[i] += places[i] / static_cast<double>(runs.size());
    }
  }
  return mean;
}

std::vector<int64_t> common_steps(const std::vector<RunSeries>& runs) {
  std::map<int64_t, std::size_t> counts;
  for (const auto& [run, series] : runs) {
    for (const auto step : series->steps) {
      ++counts[step];
    }
  }
  std::vector<int64_t> steps;
  for (const auto& [step, count] : counts) {
    if (count == runs.size()) {
      steps.push_back(step);
    }
  }
  return steps;
}

// Its values at these steps, all of which it has.
std::vector<double> values_at(const Series& series, const std::vector<int64_t>& steps) {
  std::vector<double> values;
  std::size_t i = 0;
  for (const auto step : steps) {
    while (series.steps[i] < step) {
      ++i;
    }
    values.push_back(series.values[i]);
  }
  return values;
}

void add_mean(Line& line, const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) {
    sum += value;  // NaN where one of them is
  }
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  const bool is_finite = std::isfinite(sum);
  line.y.push_back(sum / static_cast<double>(values.size()));
  if (values.size() > 1) {
    line.low.push_back(is_finite ? *low : std::numeric_limits<double>::quiet_NaN());
    line.high.push_back(is_finite ? *high : std::numeric_limits<double>::quiet_NaN());
  }
}

}  // namespace

CurveAxes::CurveAxes(const std::vector<const RunCurves*>& runs) {
  if (largest_of(runs, &RunCurves::tokens) > 0) {
    axes_.push_back(CurveAxis::kTokens);
    x_.push_back({"tokens", "training tokens", NumberStyle::kCount});
  }
  if (largest_of(runs, &RunCurves::flops) > 0) {
    axes_.push_back(CurveAxis::kFlops);
    x_.push_back({"FLOPs", "training FLOPs", NumberStyle::kPlain});
  }
  if (const double longest = largest_of(runs, &RunCurves::seconds); longest > 0) {
    const auto unit = time_unit(longest);
    seconds_per_unit_ = unit.seconds;
    axes_.push_back(CurveAxis::kSeconds);
    x_.push_back(
        {unit.name, std::string("time of training steps, ") + unit.name, NumberStyle::kPlain});
  }
  axes_.push_back(CurveAxis::kSteps);
  x_.push_back({"steps", "training steps", NumberStyle::kCount});
}

std::vector<std::string> CurveAxes::names() const {
  std::vector<std::string> names;
  for (const auto& axis : x_) {
    names.push_back(axis.name);
  }
  return names;
}

std::size_t CurveAxes::index_of(CurveAxis axis) const {
  const auto found = std::find(axes_.begin(), axes_.end(), axis);
  require(found != axes_.end(),
          "the runs have no ",
          axis == CurveAxis::kTokens  ? "tokens"
          : axis == CurveAxis::kFlops ? "FLOPs"
                                      : "times",
          " to draw over; there are: ",
          joined(names()));
  return static_cast<std::size_t>(found - axes_.begin());
}

std::vector<double> CurveAxes::places(const RunCurves& run, int64_t step) const {
  std::vector<double> places;
  for (const auto axis : axes_) {
    const double unit = axis == CurveAxis::kSeconds ? seconds_per_unit_ : 1;
    places.push_back(run.position(axis, step) / unit);
  }
  return places;
}

std::size_t smoothing_for(std::size_t points) {
  return points >= 400 ? 1 : 2;
}

std::vector<Line> lines_of(const CurveAxes& axes,
                           const RunCurves& run,
                           const Series& series,
                           bool smooths) {
  return mean_lines(axes, {{&run, &series}}, smooths);
}

std::vector<Line> mean_lines(const CurveAxes& axes,
                             const std::vector<RunSeries>& runs,
                             bool smooths) {
  const auto steps = common_steps(runs);
  Line places;
  places.x.resize(axes.x().size());
  for (const auto step : steps) {
    add_place(places, mean_places(axes, runs, step));
  }
  std::vector<std::vector<std::vector<double>>> values;  // [run][smoothing][step]
  for (const auto& [run, series] : runs) {
    values.push_back(at_smoothings(values_at(*series, steps), smooths));
  }
  std::vector<Line> lines(values.front().size(), places);
  for (std::size_t smoothing = 0; smoothing < lines.size(); ++smoothing) {
    for (std::size_t step = 0; step < steps.size(); ++step) {
      std::vector<double> of_runs;
      for (const auto& of_run : values) {
        of_runs.push_back(of_run[smoothing][step]);
      }
      add_mean(lines[smoothing], of_runs);
    }
  }
  return lines;
}

PlotSeries arm_series(const CurveAxes& axes,
                      const std::string& name,
                      int colour,
                      const std::vector<RunSeries>& runs,
                      bool smooths) {
  const bool has_few =
      !smooths || std::any_of(runs.begin(), runs.end(), [](const RunSeries& of_run) {
        return of_run.series->values.size() <= kFewPoints;
      });
  return {name, colour, mean_lines(axes, runs, !has_few), /*has_dots=*/has_few, false};
}

}  // namespace braid
