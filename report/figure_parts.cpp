#include "report/figure_parts.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "report/json_text.h"

namespace braid {

std::string percent(double place) {
  return json_number(std::round(10000 * place) / 100, 5) + "%";
}

int stretched(double place) {
  return static_cast<int>(std::lround(kStretched * std::clamp(place, -10.0, 11.0)));
}

std::string colour_class(int colour) {
  return text("c", colour % 8, colour % 16 >= 8 ? " again" : "");
}

std::string shortened(const std::string& text, std::size_t most) {
  if (text.size() <= most) {
    return text;
  }
  auto end = most - 1;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) {
    --end;  // not within a character
  }
  return text.substr(0, end) + "\xE2\x80\xA6";
}

void draw_caption(Markup& html, const std::string& title, const std::string& note) {
  html.open("figcaption").leaf("h3", {}, title);
  if (!note.empty()) {
    html.leaf("p", {}, note);
  }
  html.close().line();
}

void open_svg(Markup& svg,
              const std::string& id,
              const std::string& title,
              const std::string& description) {
  svg.open("svg",
           {{"xmlns", "http://www.w3.org/2000/svg"},
            {"role", "img"},
            {"aria-labelledby", text(id, "-title ", id, "-text")},
            {"width", "100%"},
            {"height", "100%"}});
  svg.leaf("title", {{"id", id + "-title"}}, title);
  svg.leaf("desc", {{"id", id + "-text"}}, description).line();
}

void draw_x_axis(Markup& svg, const Axis& x, const std::string& label) {
  svg.open("g", {{"class", "grid x"}});
  for (const auto& tick : x.ticks) {
    const auto at = percent(tick.place);
    svg.leaf("line", {{"x1", at}, {"x2", at}, {"y1", "0"}, {"y2", "100%"}});
    svg.leaf("text", {{"x", at}, {"y", "100%"}, {"dy", "18"}}, tick.label);
  }
  svg.close().line();
  svg.leaf("text", {{"class", "label x"}, {"x", "50%"}, {"y", "100%"}, {"dy", "36"}}, label);
  svg.line();
}

void draw_y_axis(Markup& svg, const Axis& y, const std::string& label) {
  svg.open("g", {{"class", "grid y"}});
  for (const auto& tick : y.ticks) {
    const auto at = percent(1 - tick.place);
    svg.leaf("line", {{"x1", "0"}, {"x2", "100%"}, {"y1", at}, {"y2", at}});
    svg.leaf("text", {{"x", "0"}, {"y", at}, {"dx", "-8"}, {"dy", ".32em"}}, tick.label);
  }
  svg.close().line();
  svg.leaf("text", {{"class", "label y"}, {"x", "0"}, {"y", "0"}, {"dy", "-12"}}, label);
  svg.line();
}

void add_data(Markup& html, const std::string& json) {
  html.open("script", {{"type", "application/json"}}).raw(json).close().line();
}

}  // namespace braid
