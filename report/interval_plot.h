#pragma once
// Differences with their intervals, a row each, and a line at zero.
#include <string>
#include <vector>

namespace braid {

struct IntervalRow {
  std::string name;
  double value = 0, low = 0, high = 0;  ///< NaN where there is none
  std::string verdict;                  ///< behind the numbers; may be empty
};

struct IntervalPlot {
  std::string id;  ///< a word of the page's own
  std::string title;
  std::string note;   ///< a sentence or two below the title; may be empty
  std::string label;  ///< of the x axis, with the unit
  std::vector<IntervalRow> rows;
};

/// The figure. Each row has its numbers as text and can be reached with the keyboard.
std::string figure_of(const IntervalPlot& plot);

}  // namespace braid
