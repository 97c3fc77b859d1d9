#include "report/run_page.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "report/heat_map.h"
#include "report/line_points.h"
#include "report/metric_panels.h"
#include "report/page_parts.h"
#include "run/console.h"

namespace braid {
namespace {

std::string count_text(double value) {
  return number_text(value, NumberStyle::kCount);
}

double last_finite(const std::vector<double>& values) {
  const auto found = std::find_if(
      values.rbegin(), values.rend(), [](double value) { return std::isfinite(value); });
  return found == values.rend() ? std::nan("") : *found;
}

std::string summary_line(const RunCurves& run) {
  std::string line = text(run.state, ", step ", run.last_step(), " of ", run.max_steps);
  if (const double tokens = last_finite(run.tokens); tokens > 0) {
    line += text(", ", count_text(tokens), " tokens");
  }
  if (const double flops = last_finite(run.flops); flops > 0) {
    line += text(", ", number_text(flops, NumberStyle::kPlain, 3), " FLOPs");
  }
  if (const double seconds = last_finite(run.seconds); seconds > 0) {
    line += text(", ", duration_text(seconds), " of training steps");
  }
  return line;
}

// Losses at a glance: of training the mean of the last steps, since one step says little.
PageTable results_table(const RunCurves& run) {
  constexpr double kLastShare = 0.05;
  PageTable table{"", {"loss", ">last", ">lowest", ">at step"}, {}};
  if (const auto* loss = run.training_series("loss"); loss != nullptr && !loss->values.empty()) {
    const auto window = window_of(kLastShare, loss->values.size());
    const std::vector<double> last(loss->values.end() - static_cast<std::ptrdiff_t>(window),
                                   loss->values.end());
    const auto mean = smoothed(last, 2 * window + 1).front();
    table.rows.push_back(
        {{text("training, mean of the last ", window, window == 1 ? " step" : " steps")},
         {fixed_text(mean)},
         {""},
         {""}});
  }
  for (const auto& [set, all] : run.validation) {
    const auto* loss = run.validation_series(set, "loss");
    if (loss == nullptr) {
      continue;
    }
    const auto lowest =
        std::min_element(loss->values.begin(), loss->values.end(), [](double a, double b) {
          return a < b || (std::isfinite(a) && !std::isfinite(b));
        });
    const auto at = static_cast<std::size_t>(lowest - loss->values.begin());
    table.rows.push_back({{validation_name(set)},
                          {fixed_text(loss->values.back())},
                          {fixed_text(*lowest)},
                          {std::to_string(loss->steps[at])}});
  }
  return table;
}

class RunPage {
 public:
  RunPage(const RunCurves& run, int refresh_seconds)
      : run_(run),
        axes_({&run}),
        smoothing_(smoothing_for(run.steps.size())),
        page_({.title = run.name,
               .x_axes = run.steps.empty() ? std::vector<std::string>{} : axes_.names(),
               .smoothing = smoothing_,
               .refresh_seconds = refresh_seconds}) {}

  std::string html() {
    page_.subtitle(summary_line(run_));
    if (!run_.problem.empty()) {
      page_.warning(run_.problem);
    }
    add_losses();
    add_panels();
    add_samples(page_, {{run_.name, &run_}});
    add_events(page_, {{run_.name, &run_}});
    if (!run_.config.entries.empty()) {
      page_.section("Configuration");
      page_.preformatted("every key", yaml_text(run_.config));
    }
    return page_.html();
  }

 private:
  LinePlot plot(const std::string& title, const std::string& note, const std::string& y_label) {
    LinePlot plot{ids_.of(title), title, note, axes_.x(), y_label, false, {}, {}};
    for (const auto& event : run_.events) {
      plot.events.push_back({axes_.places(run_, event.step),
                             text("step ", event.step, ": ", event.key, ": ", event.text)});
    }
    return plot;
  }

  void add(const LinePlot& plot) {
    if (has_points(plot)) {
      page_.figure(figure_of(plot, smoothing_));
    }
  }

  void add_losses() {
    auto plot = this->plot("Loss", "", "nats per target");
    if (const auto* loss = run_.training_series("loss")) {
      plot.series.push_back(
          {"training", 0, lines_of(axes_, run_, *loss, true), false, /*has_raw_behind=*/true});
    }
    for (const auto& [set, all] : run_.validation) {
      if (const auto* loss = run_.validation_series(set, "loss")) {
        plot.series.push_back({validation_name(set),
                               static_cast<int>(plot.series.size()),
                               lines_of(axes_, run_, *loss, false),
                               /*has_dots=*/true,
                               false});
      }
    }
    page_.section("Loss");
    if (const auto table = results_table(run_); !table.rows.empty()) {
      page_.table(table);
    }
    add(plot);
  }

  // Sections in the order in which panels come; a validation's panels go to those of training.
  void add_panels() {
    std::vector<std::string> keys;
    for (const auto& series : run_.training) {
      keys.push_back(series.key);
    }
    auto panels = training_panels(keys);
    std::vector<std::string> sections = {"Loss"};
    for (const auto& panel : panels) {
      if (std::find(sections.begin(), sections.end(), panel.section) == sections.end()) {
        sections.push_back(panel.section);
      }
    }
    for (const auto& section : sections) {
      if (section != "Loss") {
        page_.section(section);
      }
      for (const auto& panel : panels) {
        if (panel.section == section) {
          add_panel(panel);
        }
      }
      if (section == "Loss") {
        add_validation_panels();
      }
    }
  }

  void add_panel(const MetricPanel& panel) {
    if (panel.is_by_layer) {
      add_layers(panel);
      return;
    }
    auto plot = this->plot(panel.title, panel.note, panel.y_label);
    plot.log_y = panel.log_y;
    for (const auto& [key, name] : panel.members) {
      const auto& series = *run_.training_series(key);
      const bool is_measured_seldom = series.values.size() <= kFewPoints;
      plot.series.push_back({name,
                             static_cast<int>(plot.series.size()),
                             lines_of(axes_, run_, series, !is_measured_seldom),
                             is_measured_seldom,
                             panel.members.size() == 1 && !is_measured_seldom});
    }
    add(plot);
  }

  void add_layers(const MetricPanel& panel) {
    const auto& first = *run_.training_series(panel.members.front().key);
    HeatMap map{ids_.of(panel.title),
                panel.title,
                panel.note + (panel.note.empty() ? "" : " ") + "A row for each layer.",
                axes_.x().front().label,
                panel.y_label,
                axes_.x().front().style,
                {},
                {},
                {}};
    for (const auto step : first.steps) {
      map.x.push_back(axes_.places(run_, step).front());
    }
    for (const auto& [key, name] : panel.members) {
      const auto& series = *run_.training_series(key);
      if (series.steps == first.steps) {
        map.rows.push_back(name);
        map.values.push_back(series.values);
      }
    }
    if (has_points(map)) {
      page_.figure(figure_of(map));
    }
  }

  void add_validation_panels() {
    std::vector<std::string> keys;
    for (const auto& [set, all] : run_.validation) {
      for (const auto& series : all) {
        if (std::find(keys.begin(), keys.end(), series.key) == keys.end()) {
          keys.push_back(series.key);
        }
      }
    }
    for (const auto& panel : validation_panels(keys)) {
      auto plot = this->plot(panel.title, panel.note, panel.y_label);
      for (const auto& [key, name] : panel.members) {
        for (const auto& [set, all] : run_.validation) {
          if (const auto* series = run_.validation_series(set, key)) {
            const bool has_names = panel.members.size() > 1;
            plot.series.push_back(
                {has_names ? name + (set.empty() ? "" : ", " + set) : validation_name(set),
                 static_cast<int>(plot.series.size()),
                 lines_of(axes_, run_, *series, false),
                 true,
                 false});
          }
        }
      }
      add(plot);
    }
  }

  const RunCurves& run_;
  CurveAxes axes_;
  std::size_t smoothing_;
  Page page_;
  Ids ids_;
};

}  // namespace

std::string run_page(const RunCurves& run, int refresh_seconds) {
  return RunPage(run, refresh_seconds).html();
}

}  // namespace braid
