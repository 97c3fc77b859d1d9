#pragma once
// Lines of plots as data of SVG's <path>.
#include <string>

#include "report/axis.h"
#include "report/line_plot.h"

namespace braid {

/// Where places from 0 to 1 lie in a drawing's coordinates; y grows downwards.
struct PlotFrame {
  double left = 0, top = 0, width = 1, height = 1;
  int decimals = 0;

  /// A coordinate as it is written. Places far outside are drawn near the frame.
  std::string x(double place) const;
  std::string y(double place) const;
};

/// Of each line kept_points() keeps at most 400 points, and 1,600 in all lines of a plot, though 80
/// of each; of a smoothed line half as many.
LinePlot thinned(LinePlot plot);

/// Through the line's points over its first x axis; a point between gaps is a dot.
std::string line_path(const Line& line, const Axis& x, const Axis& y, const PlotFrame& frame);

/// The line's band: pieces between gaps, each along its high side and back along its low one.
std::string band_path(const Line& line, const Axis& x, const Axis& y, const PlotFrame& frame);

}  // namespace braid
