#pragma once
// From values to places along an axis, with ticks at round numbers.
#include <string>
#include <utility>
#include <vector>

#include "report/number_text.h"

namespace braid {

/// A place along an axis, from 0 to 1, and the number that stands there.
struct Tick {
  double place = 0;
  std::string label;
};

/// A range of values. Logarithmic axes are of positive values.
struct Axis {
  double low = 0, high = 1;
  bool is_log = false;
  std::vector<Tick> ticks;

  /// 0 at low, 1 at high, beyond them outside of the range; NaN where the axis has no place for it.
  double place(double value) const;
};

/// The smallest and the largest finite value seen.
class Range {
 public:
  void add(double value);
  void add(const std::vector<double>& values);
  bool empty() const { return low_ > high_; }
  double low() const { return low_; }
  double high() const { return high_; }
  /// Wider at both ends by this share of the range, in logarithms for log. A range of one value
  /// becomes a range around it.
  Range widened(double share, bool is_log) const;

 private:
  double low_ = 1, high_ = 0;
};

/// The axis of a range that is not empty, with about `ticks` ticks at multiples of 1, 2 or 5 times
/// a power of ten; of a logarithmic one at powers of ten, and at 2 and 5 times those where it has
/// few.
Axis make_axis(const Range& range, bool is_log, NumberStyle style, int ticks);

}  // namespace braid
