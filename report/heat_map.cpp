#include "report/heat_map.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "report/figure_parts.h"
#include "report/json_text.h"

namespace braid {
namespace {

constexpr std::size_t kMostColumns = 96;
constexpr int kColours = 12, kRowHeight = 16;

struct Cells {
  std::size_t columns = 0;
  std::vector<double> begin;                // x of each column's first point
  std::vector<std::vector<double>> values;  // [row][column]
  Range range;
};

double mean_of(const std::vector<double>& values, std::size_t begin, std::size_t end) {
  double sum = 0;
  int count = 0;
  for (std::size_t i = begin; i < end; ++i) {
    if (std::isfinite(values[i])) {
      sum += values[i];
      ++count;
    }
  }
  return count == 0 ? std::numeric_limits<double>::quiet_NaN() : sum / count;
}

Cells cells_of(const HeatMap& map) {
  const std::size_t points = map.x.size();
  Cells cells{std::min(points, kMostColumns), {}, {}, {}};
  const auto begin = [&](std::size_t column) { return column * points / cells.columns; };
  for (std::size_t column = 0; column < cells.columns; ++column) {
    cells.begin.push_back(map.x[begin(column)]);
  }
  for (const auto& values : map.values) {
    auto& row = cells.values.emplace_back();
    for (std::size_t column = 0; column < cells.columns; ++column) {
      row.push_back(mean_of(values, begin(column), begin(column + 1)));
    }
    cells.range.add(row);
  }
  return cells;
}

int colour_of(double value, const Range& range) {
  const double span = range.high() - range.low();
  const double share = span > 0 ? (value - range.low()) / span : 0;
  return std::min(kColours - 1, static_cast<int>(kColours * share));
}

// Columns are as wide as each other: one path for each colour, whose neighbours join.
void draw_cells(Markup& svg, const Cells& cells) {
  std::array<std::string, kColours> paths;
  for (std::size_t row = 0; row < cells.values.size(); ++row) {
    const auto& values = cells.values[row];
    for (std::size_t begin = 0; begin < values.size();) {
      if (!std::isfinite(values[begin])) {
        ++begin;
        continue;
      }
      const int colour = colour_of(values[begin], cells.range);
      std::size_t end = begin + 1;
      while (end < values.size() && std::isfinite(values[end]) &&
             colour_of(values[end], cells.range) == colour) {
        ++end;
      }
      paths[static_cast<std::size_t>(colour)] +=
          text("M", begin, " ", row, "h", end - begin, "v1h-", end - begin, "z");
      begin = end;
    }
  }
  svg.open("svg",
           {{"class", "cells"},
            {"viewBox", text("0 0 ", cells.columns, " ", cells.values.size())},
            {"preserveAspectRatio", "none"},
            {"width", "100%"},
            {"height", "100%"}});
  for (int colour = 0; colour < kColours; ++colour) {
    const auto& path = paths[static_cast<std::size_t>(colour)];
    if (!path.empty()) {
      svg.leaf("path", {{"class", text("h", colour)}, {"d", path}});
    }
  }
  svg.close().line();
}

// Columns follow the points, not x: ticks stand where the columns' x are.
Axis column_axis(const HeatMap& map, const Cells& cells) {
  Range range;
  range.add(map.x.front());
  range.add(map.x.back());
  auto axis = make_axis(range, false, map.x_style, 6);
  for (auto& tick : axis.ticks) {
    const double value = axis.low + tick.place * (axis.high - axis.low);
    const auto after = std::upper_bound(cells.begin.begin(), cells.begin.end(), value);
    const auto column =
        static_cast<double>(std::max<std::ptrdiff_t>(0, after - cells.begin.begin() - 1));
    tick.place = (column + 0.5) / static_cast<double>(cells.columns);
  }
  return axis;
}

void draw_row_names(Markup& svg, const HeatMap& map) {
  const auto count = static_cast<double>(map.rows.size());
  const std::size_t every = map.rows.size() > 24 ? (map.rows.size() + 11) / 12 : 1;
  svg.open("g", {{"class", "grid y"}});
  for (std::size_t row = 0; row < map.rows.size(); row += every) {
    const auto at = percent((static_cast<double>(row) + 0.5) / count);
    svg.leaf("text", {{"x", "0"}, {"y", at}, {"dx", "-8"}, {"dy", ".32em"}}, map.rows[row]);
  }
  svg.close().line();
}

void draw_scale(Markup& html, const HeatMap& map, const Range& range) {
  html.open("p", {{"class", "scale"}});
  html.text(text(map.value_label, ": ", number_text(range.low(), NumberStyle::kPlain, 3), " "));
  html.open("svg", {{"width", "120"}, {"height", "10"}, {"aria-hidden", "true"}});
  for (int colour = 0; colour < kColours; ++colour) {
    html.leaf("rect",
              {{"class", text("h", colour)},
               {"x", text(10 * colour)},
               {"width", "10"},
               {"height", "10"}});
  }
  html.close();
  html.text(text(" ", number_text(range.high(), NumberStyle::kPlain, 3))).close().line();
}

std::string data_of(const HeatMap& map, const Cells& cells) {
  std::vector<std::string> rows, names;
  for (std::size_t row = 0; row < cells.values.size(); ++row) {
    rows.push_back(json_numbers(cells.values[row], 4));
    names.push_back(json_string(map.rows[row]));
  }
  return json_object({{"kind", json_string("cells")},
                      {"x", json_numbers(cells.begin)},
                      {"label", json_string(map.x_label)},
                      {"rows", json_list(names)},
                      {"values", json_list(rows)}});
}

}  // namespace

bool has_points(const HeatMap& map) {
  Range range;
  for (const auto& row : map.values) {
    range.add(row);
  }
  return !range.empty();
}

std::string figure_of(const HeatMap& map) {
  require(has_points(map), "[heat map ", map.id, "] no points");
  for (const auto& row : map.values) {
    require(row.size() == map.x.size() && map.values.size() == map.rows.size(),
            "[heat map ",
            map.id,
            "] ",
            row.size(),
            " values in a row of ",
            map.x.size());
  }
  const auto cells = cells_of(map);
  Markup html;
  html.open("figure", {{"class", "heat"}, {"id", map.id}}).line();
  draw_caption(html, map.title, map.note);
  draw_scale(html, map, cells.range);
  const int height = std::clamp(kRowHeight * static_cast<int>(map.rows.size()), 64, 420);
  html.open("div", {{"class", "area"}, {"style", text("height:", height, "px")}});
  open_svg(html,
           map.id,
           map.title,
           text(map.value_label,
                " of ",
                map.rows.size(),
                " rows over ",
                map.x_label,
                ": from ",
                number_text(cells.range.low()),
                " to ",
                number_text(cells.range.high()),
                "."));
  draw_x_axis(html, column_axis(map, cells), map.x_label);
  draw_row_names(html, map);
  draw_cells(html, cells);
  html.close().close().line();
  add_data(html, data_of(map, cells));
  return html.close().line().take();
}

}  // namespace braid
