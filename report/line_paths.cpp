#include "report/line_paths.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "report/json_text.h"
#include "report/line_points.h"

namespace braid {
namespace {

std::vector<double> taken(const std::vector<double>& values, const std::vector<std::size_t>& kept) {
  std::vector<double> result;
  if (!values.empty()) {
    for (const auto i : kept) {
      result.push_back(values[i]);
    }
  }
  return result;
}

Line thinned(const Line& line, std::size_t most) {
  const auto kept = kept_points(
      line.low.empty() ? line.y : line.low, line.high.empty() ? line.y : line.high, most);
  Line result{{}, taken(line.y, kept), taken(line.low, kept), taken(line.high, kept)};
  for (const auto& x : line.x) {
    result.x.push_back(taken(x, kept));
  }
  return result;
}

class PathText {
 public:
  explicit PathText(const PlotFrame& frame) : frame_(frame) {}

  void add(double x, double y) {
    if (!std::isfinite(x) || !std::isfinite(y)) {
      end_piece();
      return;
    }
    path_ += text(length_ == 0 ? "M" : "L", frame_.x(x), " ", frame_.y(y));
    ++length_;
  }
  std::string take() {
    end_piece();
    return std::move(path_);
  }

 private:
  void end_piece() {
    path_ += length_ == 1 ? "h0" : "";
    length_ = 0;
  }
  const PlotFrame& frame_;
  std::string path_;
  int length_ = 0;
};

std::string coordinate(double begin, double size, double place, int decimals) {
  const double scale = std::pow(10, decimals);
  const double at = begin + size * std::clamp(place, -10.0, 11.0);
  return decimals == 0 ? std::to_string(std::lround(at))
                       : json_number(std::round(scale * at) / scale, 9);
}

}  // namespace

std::string PlotFrame::x(double place) const {
  return coordinate(left, width, place, decimals);
}

std::string PlotFrame::y(double place) const {
  return coordinate(top, height, 1 - place, decimals);
}

LinePlot thinned(LinePlot plot) {
  const std::size_t most =
      std::clamp<std::size_t>(1600 / std::max<std::size_t>(1, plot.series.size()), 80, 400);
  for (auto& series : plot.series) {
    for (std::size_t i = 0; i < series.lines.size(); ++i) {
      series.lines[i] = thinned(series.lines[i], i == 0 ? most : most / 2);
    }
  }
  return plot;
}

std::string line_path(const Line& line, const Axis& x, const Axis& y, const PlotFrame& frame) {
  PathText path(frame);
  for (std::size_t i = 0; i < line.y.size(); ++i) {
    path.add(x.place(line.x.front()[i]), y.place(line.y[i]));
  }
  return path.take();
}

std::string band_path(const Line& line, const Axis& x, const Axis& y, const PlotFrame& frame) {
  std::string path;
  const auto place = [&](std::size_t i, double value) {
    return text(frame.x(x.place(line.x.front()[i])), " ", frame.y(y.place(value)));
  };
  const auto has = [&](std::size_t i) {
    return std::isfinite(line.low[i]) && std::isfinite(line.high[i]) &&
           std::isfinite(y.place(line.low[i]));
  };
  for (std::size_t begin = 0; begin < line.low.size(); ++begin) {
    if (!has(begin)) {
      continue;
    }
    std::size_t end = begin;
    for (; end < line.low.size() && has(end); ++end) {
      path += end == begin ? "M" : "L";
      path += place(end, line.high[end]);
    }
    for (std::size_t i = end; i-- > begin;) {
      path += "L";
      path += place(i, line.low[i]);
    }
    path += "Z";
    begin = end;
  }
  return path;
}

}  // namespace braid
