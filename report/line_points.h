#pragma once
// What of a long series is drawn: smoothed means, and the points that a plot can show.
#include <cstddef>
#include <vector>

namespace braid {

/// The mean of the `window` values around each one, which is in their middle; near the ends the
/// window is cut. Values that are not finite are left out; where there are none, the result is NaN.
/// window: odd, at least 1.
std::vector<double> smoothed(const std::vector<double>& values, std::size_t window);

/// The window, odd, that covers this share of `count` values; at least 1.
std::size_t window_of(double share, std::size_t count);

/// Indices of the points that are kept of a line from low[i] to high[i] (the same vector for a line
/// without a band), ascending. The rule: up to `most` points all are kept. Of more, the line is cut
/// into most / 2 - 1 parts of equal numbers of points; of each part the lowest and the highest
/// point stay, and of the whole line the first and the last. So a spike of one step stays visible,
/// and no line has more than `most` points. A part without a finite value keeps one point, which
/// makes a gap. most: at least 4.
std::vector<std::size_t> kept_points(const std::vector<double>& low,
                                     const std::vector<double>& high,
                                     std::size_t most);

}  // namespace braid
