#include "report/line_plot.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "report/figure_parts.h"
#include "report/json_text.h"
#include "report/line_paths.h"
#include "report/line_plot_views.h"

namespace braid {
namespace {

constexpr std::size_t kMostDirectLabels = 5;
constexpr PlotFrame kStretchedFrame = {0, 0, kStretched, kStretched, 0};

void require_sound(const LinePlot& plot) {
  for (const auto& series : plot.series) {
    require(series.lines.size() == 1 || series.lines.size() == kSmoothing.size(),
            "[plot ",
            plot.id,
            "] ",
            series.name,
            " has ",
            series.lines.size(),
            " lines");
    for (const auto& line : series.lines) {
      require(line.x.size() == plot.x.size() && line.low.size() == line.high.size() &&
                  (line.low.empty() || line.low.size() == line.y.size()),
              "[plot ",
              plot.id,
              "] ",
              series.name,
              ": ",
              line.x.size(),
              " of ",
              plot.x.size(),
              " x axes, or a band that does not fit");
      for (const auto& x : line.x) {
        require(x.size() == line.y.size(),
                "[plot ",
                plot.id,
                "] ",
                series.name,
                ": ",
                x.size(),
                " and ",
                line.y.size(),
                " coordinates");
      }
    }
  }
}

const Line& line_at(const PlotSeries& series, std::size_t smoothing) {
  return series.lines[std::min(smoothing, series.lines.size() - 1)];
}

void draw_lines(
    Markup& svg, const LinePlot& plot, std::size_t smoothing, const Axis& x, const Axis& y) {
  svg.open("svg",
           {{"class", "lines"},
            {"viewBox", text("0 0 ", kStretched, " ", kStretched)},
            {"preserveAspectRatio", "none"},
            {"width", "100%"},
            {"height", "100%"}});
  for (std::size_t i = 0; i < plot.series.size(); ++i) {
    const auto& series = plot.series[i];
    const auto& line = line_at(series, smoothing);
    svg.open("g",
             {{"class", text("series ", colour_class(series.colour))}, {"data-series", text(i)}});
    if (!line.low.empty()) {
      svg.leaf("path", {{"class", "band"}, {"d", band_path(line, x, y, kStretchedFrame)}});
    }
    if (series.has_raw_behind && smoothing > 0) {
      svg.leaf("path",
               {{"class", "raw"}, {"d", line_path(series.lines.front(), x, y, kStretchedFrame)}});
    }
    svg.leaf("path", {{"class", "line"}, {"d", line_path(line, x, y, kStretchedFrame)}});
    svg.close().line();
  }
  svg.close().line();
}

// Outside of the stretched coordinates, so that they stay round.
void draw_dots(
    Markup& svg, const LinePlot& plot, std::size_t smoothing, const Axis& x, const Axis& y) {
  for (std::size_t i = 0; i < plot.series.size(); ++i) {
    const auto& series = plot.series[i];
    if (!series.has_dots) {
      continue;
    }
    svg.open("g",
             {{"class", text("dots ", colour_class(series.colour))}, {"data-series", text(i)}});
    const auto& line = line_at(series, smoothing);
    for (std::size_t point = 0; point < line.y.size(); ++point) {
      const double across = x.place(line.x.front()[point]), up = y.place(line.y[point]);
      if (std::isfinite(across) && std::isfinite(up)) {
        svg.leaf("circle", {{"cx", percent(across)}, {"cy", percent(1 - up)}, {"r", "3"}});
      }
    }
    svg.close().line();
  }
}

void draw_events(Markup& svg, const LinePlot& plot, const Axis& x) {
  svg.open("g", {{"class", "events"}});
  for (const auto& event : plot.events) {
    const auto at = percent(x.place(event.x.front()));
    svg.open("line", {{"x1", at}, {"x2", at}, {"y1", "0"}, {"y2", "100%"}});
    svg.leaf("title", {}, event.what);
    svg.close();
  }
  svg.close().line();
}

// Names beside the ends of few lines. The script moves them as it moves lines.
void draw_direct_labels(Markup& svg, const LinePlot& plot, std::size_t smoothing, const Axis& y) {
  if (plot.series.size() < 2 || plot.series.size() > kMostDirectLabels) {
    return;
  }
  struct Label {
    std::size_t series;
    double place;
  };
  std::vector<Label> labels;
  for (std::size_t i = 0; i < plot.series.size(); ++i) {
    const auto& values = line_at(plot.series[i], smoothing).y;
    const auto last = std::find_if(
        values.rbegin(), values.rend(), [](double value) { return std::isfinite(value); });
    if (last != values.rend() && std::isfinite(y.place(*last))) {
      labels.push_back({i, std::clamp(y.place(*last), 0.0, 1.0)});
    }
  }
  std::stable_sort(labels.begin(), labels.end(), [](const Label& a, const Label& b) {
    return a.place > b.place;
  });
  constexpr double kApart = 0.065;  // a line of text
  for (std::size_t i = 1; i < labels.size(); ++i) {
    labels[i].place = std::min(labels[i].place, labels[i - 1].place - kApart);
  }
  svg.open("g", {{"class", "ends"}});
  for (const auto& [series, place] : labels) {
    svg.leaf("text",
             {{"class", colour_class(plot.series[series].colour)},
              {"data-series", text(series)},
              {"x", "100%"},
              {"y", percent(1 - place)},
              {"dx", "8"},
              {"dy", ".32em"}},
             shortened(plot.series[series].name, 20));
  }
  svg.close().line();
}

void draw_swatch(Markup& html, const PlotSeries& series) {
  html.open("svg",
            {{"class", text("swatch ", colour_class(series.colour))},
             {"width", "26"},
             {"height", "10"},
             {"aria-hidden", "true"}});
  html.leaf("path", {{"class", "line"}, {"d", "M1 5H25"}});
  if (series.has_dots) {
    html.leaf("circle", {{"cx", "13"}, {"cy", "5"}, {"r", "3"}});
  }
  html.close();
}

void draw_legend(Markup& html, const LinePlot& plot) {
  if (plot.series.size() < 2) {
    return;
  }
  html.open("ul", {{"class", "legend"}, {"aria-label", "lines"}});
  for (std::size_t i = 0; i < plot.series.size(); ++i) {
    html.open("li").open("button",
                         {{"type", "button"}, {"aria-pressed", "true"}, {"data-series", text(i)}});
    draw_swatch(html, plot.series[i]);
    html.text(plot.series[i].name).close().close().line();
  }
  html.close().line();
}

// Places in kStretched units along the whole run's axis, each less the one before it: the digits of
// long curves are most of a page.
std::string steps_between_places(const std::vector<double>& x, const Axis& axis) {
  std::vector<std::string> steps;
  int before = 0;
  for (const double value : x) {
    if (!std::isfinite(value)) {
      steps.emplace_back("null");
      continue;
    }
    const int place = stretched(axis.place(value));
    steps.push_back(std::to_string(place - before));
    before = place;
  }
  return json_list(steps);
}

// Axes along which points lie as along an earlier one, as those of tokens and steps mostly do, have
// that one's number instead.
std::string json_of_places(const Line& line, const PlotViews& views) {
  std::vector<std::string> places, axes;
  for (std::size_t axis = 0; axis < line.x.size(); ++axis) {
    places.push_back(steps_between_places(line.x[axis], views.x[axis][0]));
    const auto same = std::find(places.begin(), places.end(), places.back()) - places.begin();
    const bool is_first = static_cast<std::size_t>(same) == axis;
    axes.push_back(is_first ? places.back() : std::to_string(same));
  }
  return json_list(axes);
}

std::string json_of(const Line& line, const PlotViews& views) {
  std::vector<std::pair<std::string_view, std::string>> members = {
      {"x", json_of_places(line, views)}, {"y", json_numbers(line.y, 5)}};
  if (!line.low.empty()) {
    members.emplace_back("low", json_numbers(line.low, 5));
    members.emplace_back("high", json_numbers(line.high, 5));
  }
  return json_object(members);
}

std::string data_of(const LinePlot& plot, const PlotViews& views) {
  std::vector<std::string> series, events;
  for (const auto& one : plot.series) {
    std::vector<std::string> lines;
    for (const auto& line : one.lines) {
      lines.push_back(json_of(line, views));
    }
    series.push_back(json_object({{"name", json_string(one.name)},
                                  {"raw", json_bool(one.has_raw_behind)},
                                  {"lines", json_list(lines)}}));
  }
  for (const auto& event : plot.events) {
    events.push_back(json_numbers(event.x));
  }
  return json_object({{"kind", json_string("lines")},
                      {"logY", json_bool(plot.log_y)},
                      {"x", json_of_x(views, plot)},
                      {"y", json_of_y(views)},
                      {"series", json_list(series)},
                      {"events", json_list(events)}});
}

// The room that names beside the lines' ends take.
std::string style_of(const LinePlot& plot) {
  std::size_t longest = 0;
  if (plot.series.size() >= 2 && plot.series.size() <= kMostDirectLabels) {
    for (const auto& series : plot.series) {
      longest = std::max(longest, std::min<std::size_t>(20, series.name.size()));
    }
  }
  return text("--names:", longest == 0 ? 16 : 16 + 7 * longest, "px");
}

}  // namespace

bool has_points(const LinePlot& plot) {
  return std::any_of(plot.series.begin(), plot.series.end(), [](const PlotSeries& series) {
    const auto& line = series.lines.front();
    return std::any_of(
        line.y.begin(), line.y.end(), [](double value) { return std::isfinite(value); });
  });
}

std::string description_of(const LinePlot& plot) {
  std::string result = plot.y_label + " over " + plot.x.front().label + ".";
  for (const auto& series : plot.series) {
    const auto& line = series.lines.front();
    Range range;
    std::size_t first = line.y.size(), last = 0;
    for (std::size_t i = 0; i < line.y.size(); ++i) {
      if (std::isfinite(line.y[i])) {
        range.add(line.y[i]);
        first = std::min(first, i);
        last = i;
      }
    }
    if (range.empty()) {
      result += " " + series.name + ": no values.";
      continue;
    }
    const auto style = plot.x.front().style;
    result += text(" ",
                   series.name,
                   ": from ",
                   number_text(line.y[first]),
                   " at ",
                   number_text(line.x.front()[first], style),
                   " to ",
                   number_text(line.y[last]),
                   " at ",
                   number_text(line.x.front()[last], style),
                   ", lowest ",
                   number_text(range.low()),
                   ", highest ",
                   number_text(range.high()),
                   ".");
  }
  return result;
}

std::string figure_of(const LinePlot& whole, std::size_t smoothing) {
  require_sound(whole);
  require(has_points(whole), "[plot ", whole.id, "] no points");
  const auto views = views_of(whole);
  const auto plot = thinned(whole);
  const auto& x = views.x.front()[0];
  const auto& scales = views.y.at(smoothing)[0];
  const auto& y = plot.log_y && scales[1] ? *scales[1] : *scales[0];
  Markup html;
  html.open("figure", {{"class", "plot"}, {"id", plot.id}, {"style", style_of(plot)}}).line();
  draw_caption(html, plot.title, plot.note);
  draw_legend(html, plot);
  html.open("div", {{"class", "area"}});
  open_svg(html, plot.id, plot.title, description_of(whole));
  draw_x_axis(html, x, plot.x.front().label);
  draw_y_axis(html, y, plot.y_label);
  draw_events(html, plot, x);
  draw_lines(html, plot, smoothing, x, y);
  draw_dots(html, plot, smoothing, x, y);
  draw_direct_labels(html, plot, smoothing, y);
  html.close().close().line();
  add_data(html, data_of(plot, views));
  return html.close().line().take();
}

}  // namespace braid
