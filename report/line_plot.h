#pragma once
// Curves as SVG for an HTML page. The figure is whole without a script; report/page.js, which reads
// the numbers beside it, adds other axes, smoothing, and values under the pointer.
#include <array>
#include <string>
#include <vector>

#include "report/number_text.h"

namespace braid {

/// What an x axis shows: one of several that a reader can choose from.
struct XAxis {
  std::string name;   ///< "FLOPs": as the page's control has it
  std::string label;  ///< "training FLOPs": with the unit
  NumberStyle style = NumberStyle::kPlain;
};

/// Points in order, and a band around them where there is one. NaN is a gap.
struct Line {
  std::vector<std::vector<double>> x;  ///< of each x axis of the plot, a value for each point
  std::vector<double> y;
  std::vector<double> low, high;  ///< as many as y; empty = no band
};

/// How training curves are smoothed: shares of a curve's points over which the mean is taken,
/// centred. A reader chooses one.
inline constexpr std::array kSmoothing = {0.0, 0.01, 0.05};

struct PlotSeries {
  std::string name;
  int colour = 0;               ///< and dash; any number, the same for a name all over a page
  std::vector<Line> lines;      ///< one, or one for each of kSmoothing
  bool has_dots = false;        ///< at each point, for few points
  bool has_raw_behind = false;  ///< lines.front() stays visible, faint, behind a smoothed one
};

/// Something that happened, on all x axes.
struct PlotEvent {
  std::vector<double> x;
  std::string what;
};

struct LinePlot {
  std::string id;  ///< a word of the page's own
  std::string title;
  std::string note;  ///< a sentence or two below the title; may be empty
  std::vector<XAxis> x;
  std::string y_label;  ///< with the unit
  bool log_y = false;   ///< at first; a reader can change it, where all values are positive
  std::vector<PlotSeries> series;
  std::vector<PlotEvent> events;
  bool x_from_zero = true;  ///< a run begins there; false: x axes begin at the first point
};

/// Whether any point could be drawn.
bool has_points(const LinePlot& plot);

/// Each line's first, last, lowest and highest value in words, for readers who hear the plot.
std::string description_of(const LinePlot& plot);

/// The figure: title, legend, drawing, and the numbers for the script. `smoothing`: which of
/// kSmoothing is drawn. Lines are thinned() (report/line_paths.h).
std::string figure_of(const LinePlot& plot, std::size_t smoothing);

}  // namespace braid
