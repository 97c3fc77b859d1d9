#include "core/nearest.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace braid {

std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({substituted, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

std::string nearest_name(const std::string& word, const std::vector<std::string>& names) {
  const auto nearest = std::ranges::min_element(
      names, {}, [&word](const std::string& name) { return edit_distance(word, name); });
  const bool is_near =
      nearest != names.end() && 2 * edit_distance(word, *nearest) <= nearest->size();
  return is_near ? *nearest : "";
}

}  // namespace braid
