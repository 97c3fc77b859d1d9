#include "report/line_plot_views.h"

#include <algorithm>

#include "report/json_text.h"

namespace braid {
namespace {

constexpr int kTicksX = 6, kTicksY = 6;

const Line& at_smoothing(const PlotSeries& series, std::size_t smoothing) {
  return series.lines.at(std::min(smoothing, series.lines.size() - 1));
}

Range x_range(const LinePlot& plot, std::size_t axis) {
  Range range;
  for (const auto& series : plot.series) {
    for (const auto& line : series.lines) {
      range.add(line.x.at(axis));
    }
  }
  if (plot.x_from_zero && !range.empty() && range.low() > 0) {
    range.add(0);
  }
  return range;
}

void add_values(Range& range, const Line& line, double from_x) {
  const auto add = [&](const std::vector<double>& values) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (line.x.front()[i] >= from_x) {
        range.add(values[i]);
      }
    }
  };
  add(line.y);
  add(line.low);
  add(line.high);
}

Range y_range(const LinePlot& plot, std::size_t smoothing, double from_x) {
  Range range;
  for (const auto& series : plot.series) {
    add_values(range, at_smoothing(series, smoothing), from_x);
    if (series.has_raw_behind) {
      add_values(range, series.lines.front(), from_x);
    }
  }
  return range;
}

std::optional<Axis> y_axis(Range range, bool is_log) {
  if (is_log && range.low() <= 0) {
    return std::nullopt;
  }
  const bool from_zero = !is_log && range.low() >= 0 && range.low() < 0.1 * range.high();
  const double low = range.low();
  range = range.widened(0.04, is_log);
  if (from_zero && low >= 0 && range.low() < 0) {
    Range upwards;
    upwards.add(0);
    upwards.add(range.high());
    range = upwards;
  }
  return make_axis(range, is_log, NumberStyle::kPlain, kTicksY);
}

std::string json_of(const Axis& axis) {
  std::vector<std::string> ticks;
  for (const auto& tick : axis.ticks) {
    ticks.push_back(json_list({json_number(tick.place), json_string(tick.label)}));
  }
  return json_object({{"low", json_number(axis.low, 9)},
                      {"high", json_number(axis.high, 9)},
                      {"log", json_bool(axis.is_log)},
                      {"ticks", json_list(ticks)}});
}

}  // namespace

PlotViews views_of(const LinePlot& plot) {
  PlotViews views;
  for (std::size_t axis = 0; axis < plot.x.size(); ++axis) {
    const auto whole = x_range(plot, axis);
    Range half;
    half.add((whole.low() + whole.high()) / 2);
    half.add(whole.high());
    const auto style = plot.x[axis].style;
    views.x.push_back(
        {make_axis(whole, false, style, kTicksX), make_axis(half, false, style, kTicksX)});
  }
  for (std::size_t smoothing = 0; smoothing < kSmoothing.size(); ++smoothing) {
    for (std::size_t view = 0; view < kViews.size(); ++view) {
      auto range = y_range(plot, smoothing, views.x.front()[view].low);
      if (range.empty()) {  // all ended in the first half
        range = y_range(plot, smoothing, views.x.front()[0].low);
      }
      if (!range.empty()) {
        views.y[smoothing][view] = {y_axis(range, false), y_axis(range, true)};
      }
    }
  }
  return views;
}

std::string json_of_x(const PlotViews& views, const LinePlot& plot) {
  std::vector<std::string> x;
  for (std::size_t axis = 0; axis < plot.x.size(); ++axis) {
    std::vector<std::string> of_views;
    for (const auto& view : views.x[axis]) {
      of_views.push_back(json_of(view));
    }
    x.push_back(json_object({{"name", json_string(plot.x[axis].name)},
                             {"label", json_string(plot.x[axis].label)},
                             {"counts", json_bool(plot.x[axis].style == NumberStyle::kCount)},
                             {"views", json_list(of_views)}}));
  }
  return json_list(x);
}

std::string json_of_y(const PlotViews& views) {
  std::vector<std::string> y;
  for (const auto& smoothing : views.y) {
    std::vector<std::string> of_views;
    for (const auto& view : smoothing) {
      std::vector<std::string> scales;
      for (const auto& scale : view) {
        scales.push_back(scale ? json_of(*scale) : "null");
      }
      of_views.push_back(json_list(scales));
    }
    y.push_back(json_list(of_views));
  }
  return json_list(y);
}

}  // namespace braid
