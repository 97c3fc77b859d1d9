#pragma once
// Runs' curves as lines of plots.
#include <string>
#include <vector>

#include "report/curves.h"
#include "report/line_plot.h"

namespace braid {

/// The x axes that all plots of a page share: those of tokens, FLOPs, time and steps that any of
/// its runs has. The unit of time follows from the longest run.
class CurveAxes {
 public:
  explicit CurveAxes(const std::vector<const RunCurves*>& runs);

  const std::vector<XAxis>& x() const { return x_; }
  std::vector<std::string> names() const;
  /// Its index in x(). Throws Error where no run has one.
  std::size_t index_of(CurveAxis axis) const;
  /// Where a step of a run lies on each of them.
  std::vector<double> places(const RunCurves& run, int64_t step) const;

 private:
  std::vector<CurveAxis> axes_;
  std::vector<XAxis> x_;
  double seconds_per_unit_ = 1;
};

/// Which of kSmoothing suits training curves of this many points at first: shorter ones are
/// noisier.
std::size_t smoothing_for(std::size_t points);

/// Curves of so few points are drawn with dots, and are not smoothed.
inline constexpr std::size_t kFewPoints = 30;

/// A series of a run at each of kSmoothing; `smooths`: false for few points, which then are as they
/// are.
std::vector<Line> lines_of(const CurveAxes& axes,
                           const RunCurves& run,
                           const Series& series,
                           bool smooths);

/// The same number of several runs, such as of different seeds.
struct RunSeries {
  const RunCurves* run = nullptr;
  const Series* series = nullptr;
};

/// Their mean at every step that all of them have, and a band from the lowest to the highest of
/// them; each is smoothed before. A step lies on an axis where it does in the mean of the runs. One
/// run has no band.
std::vector<Line> mean_lines(const CurveAxes& axes,
                             const std::vector<RunSeries>& runs,
                             bool smooths);

/// mean_lines() as an arm's line of a plot; few points have dots and are not smoothed. `runs` is
/// not empty.
PlotSeries arm_series(const CurveAxes& axes,
                      const std::string& name,
                      int colour,
                      const std::vector<RunSeries>& runs,
                      bool smooths);

}  // namespace braid
