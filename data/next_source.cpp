#include "data/next_source.h"

#include <limits>
#include <numeric>

namespace braid {

std::size_t next_source(const std::vector<double>& shares, const std::vector<int64_t>& turns) {
  const auto n = static_cast<double>(std::accumulate(turns.begin(), turns.end(), int64_t{0}));
  double soonest = std::numeric_limits<double>::infinity();
  std::size_t chosen = 0;
  for (std::size_t i = 0; i < shares.size(); ++i) {
    const auto had = static_cast<double>(turns[i]);
    const double deadline = (had + 1) / shares[i];
    if (had < shares[i] * (n + 1) && deadline < soonest) {
      soonest = deadline;
      chosen = i;
    }
  }
  return chosen;
}

}  // namespace braid
