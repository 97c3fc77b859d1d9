#pragma once
// The axes that a reader of a line plot can choose from. They are made here, so that the page's
// script has no rule for ticks of its own.
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "report/axis.h"
#include "report/line_plot.h"

namespace braid {

/// How much of a run is shown: all of it, or its second half, where curves that began far apart are
/// close.
inline constexpr std::array kViews = {"whole run", "second half"};

struct PlotViews {
  /// [x axis][view]
  std::vector<std::array<Axis, kViews.size()>> x;
  /// [smoothing][view][logarithmic]; none where values are not positive.
  std::array<std::array<std::array<std::optional<Axis>, 2>, kViews.size()>, kSmoothing.size()> y;
};

/// Of a plot with points.
PlotViews views_of(const LinePlot& plot);

/// As the script reads them.
std::string json_of_x(const PlotViews& views, const LinePlot& plot);
std::string json_of_y(const PlotViews& views);

}  // namespace braid
