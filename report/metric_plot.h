#pragma once
// One number of runs, by its name, as a plot for documents.
#include <string>
#include <vector>

#include "report/comparison.h"
#include "report/curves.h"

namespace braid {

/// What is drawn.
struct MetricPlot {
  std::string metric;  ///< see MetricName (report/metric_name.h)
  CurveAxis axis = CurveAxis::kTokens;
  bool log_y = false;     ///< also where the metric is not drawn so by itself
  int64_t from_step = 0;  ///< what lies before is not drawn
};

/// A line for each arm, the mean over its runs that count, with a band from the lowest to the
/// highest seed. Throws Error where no such run has the metric, with the nearest one.
std::string svg_of_arms(const Comparison& comparison, const MetricPlot& what);

/// A run's line.
std::string svg_of_run(const RunCurves& run, const MetricPlot& what);

}  // namespace braid
