#include "report/svg_plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <string_view>

#include "core/error.h"
#include "core/file.h"
#include "core/output_place.h"
#include "report/json_text.h"
#include "report/line_paths.h"
#include "report/line_plot_views.h"
#include "report/markup.h"

namespace braid {
namespace {

// By which a file is known as one of Braid's.
constexpr std::string_view kSvgMaker = "<!-- made by Braid -->";

// Those of report/page.css on white.
constexpr const char* kInk = "#1c2127";
constexpr const char* kSoft = "#5b6570";
constexpr const char* kRule = "#dfe3e8";
constexpr std::array kColours = {
    "#0072b2", "#d55e00", "#009e73", "#000000", "#cc79a7", "#56b4e9", "#e69f00", "#7a4b00"};
constexpr std::array kDashes = {"", "9 4", "2 4", "10 4 2 4", "16 4", "5 4", "10 4 2 4 2 4", "4 7"};

constexpr double kWidth = 760, kLeft = 68, kRight = 24, kPlotHeight = 300;
constexpr double kLineHeight = 20, kBelow = 56, kSwatch = 26;
constexpr double kCharacter = 7;  // of the legend, about

std::string pixels(double value) {
  return json_number(std::round(10 * value) / 10, 6);
}

std::size_t length_of(const std::string& words) {
  return static_cast<std::size_t>(std::count_if(words.begin(), words.end(), [](char c) {
    return (static_cast<unsigned char>(c) >> 6) != 2;
  }));
}

Markup::Attributes stroke_of(const PlotSeries& series) {
  const auto colour = static_cast<std::size_t>(series.colour);
  const std::string dash = colour % 16 >= 8 ? "1 5" : kDashes[colour % 8];
  Markup::Attributes attributes = {{"fill", "none"},
                                   {"stroke", kColours[colour % 8]},
                                   {"stroke-width", "2"},
                                   {"stroke-linejoin", "round"},
                                   {"stroke-linecap", "round"}};
  if (!dash.empty()) {
    attributes.emplace_back("stroke-dasharray", dash);
  }
  return attributes;
}

std::string colour_of(const PlotSeries& series) {
  return kColours[static_cast<std::size_t>(series.colour) % 8];
}

class SvgPlot {
 public:
  SvgPlot(const LinePlot& plot, std::size_t smoothing)
      : whole_(plot), plot_(thinned(plot)), smoothing_(smoothing) {
    const auto views = views_of(plot);
    const auto& scales = views.y.at(smoothing)[0];
    x_ = views.x.front()[0];
    y_ = plot.log_y && scales[1] ? *scales[1] : *scales[0];
  }

  std::string svg() {
    double top = 30;
    Markup above;
    std::swap(svg_, above);
    text(kLeft, top, plot_.title, kInk, 17, "start", "600");
    for (const auto& line : wrapped(plot_.note)) {
      top += kLineHeight;
      text(kLeft, top, line, kSoft, 13);
    }
    top = add_legend(top + 8) + 40;
    frame_ = {kLeft, top, kWidth - kLeft - kRight, kPlotHeight, 1};
    add_axes();
    add_lines();
    const auto content = svg_.take();
    const auto height = pixels(top + kPlotHeight + kBelow);
    above.open(
        "svg",
        {{"xmlns", "http://www.w3.org/2000/svg"},
         {"viewBox", "0 0 " + pixels(kWidth) + " " + height},
         {"width", pixels(kWidth)},
         {"height", height},
         {"role", "img"},
         {"aria-labelledby", "title description"},
         {"font-family", "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"}});
    above.raw(kSvgMaker).line();
    above.leaf("title", {{"id", "title"}}, plot_.title).line();
    above.leaf("desc", {{"id", "description"}}, description_of(whole_)).line();
    above.leaf("rect", {{"width", "100%"}, {"height", "100%"}, {"fill", "#ffffff"}}).line();
    return above.raw(content).close().line().take();
  }

 private:
  void text(double x,
            double y,
            const std::string& words,
            const char* colour,
            int size,
            const char* anchor = "start",
            const char* weight = "400") {
    svg_.leaf("text",
              {{"x", pixels(x)},
               {"y", pixels(y)},
               {"font-size", std::to_string(size)},
               {"font-weight", weight},
               {"text-anchor", anchor},
               {"fill", colour}},
              words);
    svg_.line();
  }

  // At spaces, to the plot's width.
  static std::vector<std::string> wrapped(const std::string& words) {
    const auto most = static_cast<std::size_t>((kWidth - kLeft - kRight) / kCharacter);
    std::vector<std::string> lines;
    std::string rest = words;
    while (!rest.empty()) {
      const auto space = rest.size() > most ? rest.rfind(' ', most) : std::string::npos;
      lines.push_back(rest.substr(0, space));
      rest.erase(0, space == std::string::npos ? space : space + 1);
    }
    return lines;
  }

  // Returns where it ends. A single line needs none.
  double add_legend(double top) {
    if (plot_.series.size() < 2) {
      return top;
    }
    double x = kLeft, y = top + kLineHeight / 2;
    for (const auto& series : plot_.series) {
      const double width =
          kSwatch + 8 + kCharacter * static_cast<double>(length_of(series.name)) + 18;
      if (x > kLeft && x + width > kWidth - kRight) {
        x = kLeft;
        y += kLineHeight;
      }
      auto attributes = stroke_of(series);
      attributes.emplace_back("d",
                              braid::text("M", pixels(x), " ", pixels(y), "h", pixels(kSwatch)));
      svg_.leaf("path", attributes);
      if (series.has_dots) {
        add_dot(series, pixels(x + kSwatch / 2), pixels(y));
      }
      text(x + kSwatch + 8, y + 4.5, series.name, kInk, 13);
      x += width;
    }
    return y + kLineHeight / 2;
  }

  void add_rule(const std::string& x1,
                const std::string& y1,
                const std::string& x2,
                const std::string& y2) {
    svg_.leaf("line", {{"x1", x1}, {"y1", y1}, {"x2", x2}, {"y2", y2}, {"stroke", kRule}});
  }

  void add_axes() {
    const double bottom = frame_.top + frame_.height;
    for (const auto& tick : x_.ticks) {
      add_rule(frame_.x(tick.place), frame_.y(0), frame_.x(tick.place), frame_.y(1));
      text(kLeft + frame_.width * tick.place, bottom + 18, tick.label, kSoft, 12, "middle");
    }
    for (const auto& tick : y_.ticks) {
      add_rule(frame_.x(0), frame_.y(tick.place), frame_.x(1), frame_.y(tick.place));
      text(kLeft - 8, bottom - frame_.height * tick.place + 4, tick.label, kSoft, 12, "end");
    }
    text(kLeft + frame_.width / 2, bottom + 40, plot_.x.front().label, kSoft, 13, "middle");
    text(kLeft - 50, frame_.top - 14, plot_.y_label, kSoft, 13);
  }

  void add_dot(const PlotSeries& series, const std::string& x, const std::string& y) {
    svg_.leaf(
        "circle",
        {{"cx", x}, {"cy", y}, {"r", "3"}, {"fill", colour_of(series)}, {"stroke", "#ffffff"}});
  }

  // Bands first, so that none lies over another arm's line.
  void add_lines() {
    for (const auto& series : plot_.series) {
      const auto& line = line_of(series);
      if (!line.low.empty()) {
        svg_.leaf("path",
                  {{"fill", colour_of(series)},
                   {"fill-opacity", "0.16"},
                   {"d", band_path(line, x_, y_, frame_)}});
        svg_.line();
      }
    }
    for (const auto& series : plot_.series) {
      if (series.has_raw_behind && smoothing_ > 0) {
        svg_.leaf("path",
                  {{"fill", "none"},
                   {"stroke", colour_of(series)},
                   {"stroke-opacity", "0.32"},
                   {"d", line_path(series.lines.front(), x_, y_, frame_)}});
        svg_.line();
      }
      auto attributes = stroke_of(series);
      attributes.emplace_back("d", line_path(line_of(series), x_, y_, frame_));
      svg_.leaf("path", attributes).line();
      if (series.has_dots) {
        add_dots(series);
      }
    }
  }

  void add_dots(const PlotSeries& series) {
    const auto& line = line_of(series);
    for (std::size_t i = 0; i < line.y.size(); ++i) {
      const double across = x_.place(line.x.front()[i]), up = y_.place(line.y[i]);
      if (std::isfinite(across) && std::isfinite(up)) {
        add_dot(series, frame_.x(across), frame_.y(up));
      }
    }
    svg_.line();
  }

  const Line& line_of(const PlotSeries& series) const {
    return series.lines[std::min(smoothing_, series.lines.size() - 1)];
  }

  const LinePlot& whole_;
  LinePlot plot_;
  std::size_t smoothing_;
  Axis x_, y_;
  PlotFrame frame_;
  Markup svg_;
};

bool is_own_svg(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string begin(1000, '\0');
  file.read(begin.data(), static_cast<std::streamsize>(begin.size()));
  return file.gcount() == 0 || begin.find(kSvgMaker) != std::string::npos;
}

}  // namespace

std::string svg_of(const LinePlot& plot, std::size_t smoothing) {
  require(has_points(plot), "[plot ", plot.title, "] no points");
  return SvgPlot(plot, smoothing).svg();
}

void write_svg(const std::filesystem::path& path, const std::string& svg) {
  const auto place = output_place(path);
  require(place.through || !std::filesystem::exists(place.path) || is_own_svg(place.path),
          path.string(),
          ": exists and is no plot of Braid's, so it is not replaced; choose another name or "
          "remove it");
  write_file_atomically(path, svg);
}

}  // namespace braid
