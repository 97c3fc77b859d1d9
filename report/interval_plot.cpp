#include "report/interval_plot.h"

#include <cmath>

#include "core/error.h"
#include "report/figure_parts.h"

namespace braid {
namespace {

constexpr int kRowPixels = 46;

std::string interval_text(const IntervalRow& row) {
  if (!std::isfinite(row.value)) {
    return "no value";
  }
  std::string result = signed_text(row.value);
  if (std::isfinite(row.low) && std::isfinite(row.high)) {
    result += text(" [", signed_text(row.low), ", ", signed_text(row.high), "]");
  }
  return result;
}

Axis axis_of(const IntervalPlot& plot) {
  Range range;
  range.add(0);
  for (const auto& row : plot.rows) {
    for (const double value : {row.value, row.low, row.high}) {
      range.add(value);
    }
  }
  return make_axis(range.widened(0.06, false), false, NumberStyle::kPlain, 6);
}

// Its texts above its bar, which may be long.
void draw_row(Markup& svg, const IntervalRow& row, std::size_t number, const Axis& x) {
  const double top = kRowPixels * static_cast<double>(number);
  const std::string text_y = text(top + 17), bar_y = text(top + 32);
  const auto numbers = interval_text(row) + (row.verdict.empty() ? "" : ", " + row.verdict);
  svg.open("g",
           {{"class", "interval"},
            {"tabindex", "0"},
            {"role", "img"},
            {"aria-label", row.name + ": " + numbers}});
  svg.leaf("text", {{"class", "name"}, {"x", "0"}, {"y", text_y}}, shortened(row.name, 28));
  svg.leaf("text", {{"class", "numbers"}, {"x", "100%"}, {"y", text_y}}, numbers);
  if (std::isfinite(row.low) && std::isfinite(row.high)) {
    svg.leaf("line",
             {{"x1", percent(x.place(row.low))},
              {"x2", percent(x.place(row.high))},
              {"y1", bar_y},
              {"y2", bar_y}});
  }
  if (std::isfinite(row.value)) {
    svg.leaf("circle", {{"cx", percent(x.place(row.value))}, {"cy", bar_y}, {"r", "5"}});
  }
  svg.close().line();
}

}  // namespace

std::string figure_of(const IntervalPlot& plot) {
  const auto x = axis_of(plot);
  std::string description = plot.label + ".";
  for (const auto& row : plot.rows) {
    description += text(" ", row.name, ": ", interval_text(row), ".");
  }
  Markup html;
  html.open("figure", {{"class", "intervals"}, {"id", plot.id}}).line();
  draw_caption(html, plot.title, plot.note);
  html.open("div",
            {{"class", "area"},
             {"style", text("height:", kRowPixels * static_cast<int>(plot.rows.size()), "px")}});
  open_svg(html, plot.id, plot.title, description);
  draw_x_axis(html, x, plot.label);
  const auto zero = percent(x.place(0));
  html.leaf("line", {{"class", "zero"}, {"x1", zero}, {"x2", zero}, {"y1", "0"}, {"y2", "100%"}});
  for (std::size_t i = 0; i < plot.rows.size(); ++i) {
    draw_row(html, plot.rows[i], i, x);
  }
  html.close().close().line();
  return html.close().line().take();
}

}  // namespace braid
