#pragma once
// Values of several rows over a run, as colours: for the layers of a model.
#include <string>
#include <vector>

#include "report/number_text.h"

namespace braid {

struct HeatMap {
  std::string id;  ///< a word of the page's own
  std::string title;
  std::string note;  ///< a sentence or two below the title; may be empty
  std::string x_label, value_label;
  NumberStyle x_style = NumberStyle::kPlain;
  std::vector<std::string> rows;            ///< from the top
  std::vector<double> x;                    ///< ascending
  std::vector<std::vector<double>> values;  ///< [row][point]; NaN is left blank
};

bool has_points(const HeatMap& map);

/// The figure. Over x it shows the means of at most 96 parts of equal numbers of points, in twelve
/// colours between the lowest and the highest of them.
std::string figure_of(const HeatMap& map);

}  // namespace braid
