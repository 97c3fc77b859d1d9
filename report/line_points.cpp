#include "report/line_points.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"

namespace braid {

std::vector<double> smoothed(const std::vector<double>& values, std::size_t window) {
  require(window % 2 == 1, "[smoothed] a window of ", window, ", expected an odd number");
  const std::size_t half = window / 2;
  // Sums and numbers of the finite values before each index. A mean is taken of deviations from one
  // value, so that the digits of a long sum are those that matter.
  const auto first =
      std::find_if(values.begin(), values.end(), [](double value) { return std::isfinite(value); });
  const double middle = first == values.end() ? 0 : *first;
  std::vector<double> sum(values.size() + 1, 0);
  std::vector<std::size_t> count(values.size() + 1, 0);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const bool counts = std::isfinite(values[i]);
    sum[i + 1] = sum[i] + (counts ? values[i] - middle : 0);
    count[i + 1] = count[i] + (counts ? 1 : 0);
  }
  std::vector<double> result;
  result.reserve(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t begin = i - std::min(i, half), end = std::min(values.size(), i + half + 1);
    const auto n = count[end] - count[begin];
    result.push_back(n == 0 ? std::numeric_limits<double>::quiet_NaN()
                            : middle + (sum[end] - sum[begin]) / static_cast<double>(n));
  }
  return result;
}

std::size_t window_of(double share, std::size_t count) {
  return 2 * static_cast<std::size_t>(share * static_cast<double>(count) / 2) + 1;
}

std::vector<std::size_t> kept_points(const std::vector<double>& low,
                                     const std::vector<double>& high,
                                     std::size_t most) {
  require(low.size() == high.size() && most >= 4,
          "[kept_points] ",
          low.size(),
          " and ",
          high.size(),
          " values, at most ",
          most);
  std::vector<std::size_t> kept;
  const std::size_t count = low.size();
  if (count <= most) {
    for (std::size_t i = 0; i < count; ++i) {
      kept.push_back(i);
    }
    return kept;
  }
  const std::size_t parts = most / 2 - 1;
  kept.push_back(0);
  for (std::size_t part = 0; part < parts; ++part) {
    const std::size_t begin = part * count / parts, end = (part + 1) * count / parts;
    std::size_t lowest = begin, highest = begin;
    for (std::size_t i = begin; i < end; ++i) {
      // Whatever is compared with NaN is no improvement, and NaN is replaced by any number.
      lowest = low[i] < low[lowest] || !std::isfinite(low[lowest]) ? i : lowest;
      highest = high[i] > high[highest] || !std::isfinite(high[highest]) ? i : highest;
    }
    kept.push_back(std::min(lowest, highest));
    kept.push_back(std::max(lowest, highest));
  }
  kept.push_back(count - 1);
  kept.erase(std::unique(kept.begin(), kept.end()), kept.end());
  return kept;
}

}  // namespace braid
