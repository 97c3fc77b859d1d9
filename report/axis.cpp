#include "report/axis.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"

namespace braid {
namespace {

// The step among 1, 2 and 5 times powers of ten that gives about so many ticks, rather more than
// fewer.
double round_step(double span, int ticks) {
  const double wanted = span / ticks;
  const double power = std::pow(10, std::floor(std::log10(wanted)));
  double best = power;
  for (const double factor : {2.0, 5.0, 10.0}) {
    if (span / (factor * power) >= ticks - 2) {
      best = factor * power;
    }
  }
  return best;
}

int decimal_place(double value) {
  return static_cast<int>(std::floor(std::log10(value) + 1e-9));
}

void add_linear_ticks(Axis& axis, NumberStyle style, int ticks) {
  const double step = round_step(axis.high - axis.low, ticks);
  const double largest = std::max(std::abs(axis.low), std::abs(axis.high));
  // As many digits as tell one tick from the next.
  const int digits = std::clamp(decimal_place(largest) - decimal_place(step) + 1, 1, 15);
  const double slack = 1e-9 * (axis.high - axis.low);
  for (double i = std::ceil((axis.low - slack) / step); i * step <= axis.high + slack; ++i) {
    axis.ticks.push_back({axis.place(i * step), number_text(i * step, style, digits)});
  }
}

void add_log_ticks(Axis& axis, NumberStyle style, int ticks) {
  const double decades = std::log10(axis.high / axis.low);
  if (decades < 0.7) {
    add_linear_ticks(axis, style, ticks);
    return;
  }
  const int first = static_cast<int>(std::floor(std::log10(axis.low))),
            last = static_cast<int>(std::ceil(std::log10(axis.high)));
  const int every = std::max(1, static_cast<int>(std::ceil(decades / ticks)));
  for (int power = first; power <= last; ++power) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      const double value = factor * std::pow(10, power);
      const bool is_wanted = factor == 1 ? (power - first) % every == 0 : decades < 2.5;
      if (is_wanted && value >= axis.low * (1 - 1e-9) && value <= axis.high * (1 + 1e-9)) {
        axis.ticks.push_back({axis.place(value), number_text(value, style, 1)});
      }
    }
  }
}

}  // namespace

double Axis::place(double value) const {
  if (!is_log) {
    return (value - low) / (high - low);
  }
  return value > 0 ? std::log(value / low) / std::log(high / low)
                   : std::numeric_limits<double>::quiet_NaN();
}

void Range::add(double value) {
  if (std::isfinite(value)) {
    const bool is_first = empty();
    low_ = is_first ? value : std::min(low_, value);
    high_ = is_first ? value : std::max(high_, value);
  }
}

void Range::add(const std::vector<double>& values) {
  for (const double value : values) {
    add(value);
  }
}

Range Range::widened(double share, bool is_log) const {
  Range result = *this;
  if (is_log) {
    const double by = high_ > low_ * (1 + 1e-12) ? std::pow(high_ / low_, share) : 2;
    result.low_ /= by;
    result.high_ *= by;
    return result;
  }
  const double size = std::max(std::abs(low_), std::abs(high_));
  const double span = high_ - low_;
  const double by = span > 1e-12 * size ? share * span : size == 0 ? 1 : 0.1 * size;
  result.low_ -= by;
  result.high_ += by;
  return result;
}

Axis make_axis(const Range& range, bool is_log, NumberStyle style, int ticks) {
  require(!range.empty() && (!is_log || range.low() > 0),
          "[make_axis] no range for a ",
          is_log ? "logarithmic" : "linear",
          " axis");
  Axis axis{range.low(), range.high(), is_log, {}};
  if (!(axis.high > axis.low)) {
    const auto wider = range.widened(0, is_log);
    axis.low = wider.low();
    axis.high = wider.high();
  }
  is_log ? add_log_ticks(axis, style, ticks) : add_linear_ticks(axis, style, ticks);
  return axis;
}

}  // namespace braid
