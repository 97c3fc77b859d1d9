#pragma once
// --plot of the commands that draw curves.
#include <map>
#include <string>

#include "commands/command_options.h"
#include "report/metric_plot.h"

namespace braid {

/// --plot METRIC, and how it is drawn: --axis, --from-step, --log-y. Returns the option --plot.
inline CLI::Option* add_plot_options(CLI::App& command, MetricPlot& plot) {
  static const std::map<std::string, CurveAxis> kAxes = {{"tokens", CurveAxis::kTokens},
                                                         {"flops", CurveAxis::kFlops},
                                                         {"time", CurveAxis::kSeconds},
                                                         {"steps", CurveAxis::kSteps}};
  auto* metric = command.add_option(
      "--plot",
      plot.metric,
      "draw this number as an SVG file, which -o names: a key of metrics.jsonl, of training, else "
      "of validation; validation/KEY and validation/SET/KEY are of validation");
  metric->check(not_empty());
  command
      .add_option_function<std::string>(
          "--axis",
          [&plot](const std::string& name) { plot.axis = kAxes.at(name); },
          "what the plot is drawn over: tokens (if not given), flops, time or steps")
      ->check(CLI::IsMember({"tokens", "flops", "time", "steps"}))
      ->needs(metric);
  command
      .add_option(
          "--from-step", plot.from_step, "draw from this step on, to see what is close later")
      ->check(whole_number(1, 1'000'000'000'000'000))
      ->needs(metric);
  command.add_flag("--log-y", plot.log_y, "the plot's y axis is logarithmic")->needs(metric);
  return metric;
}

}  // namespace braid
