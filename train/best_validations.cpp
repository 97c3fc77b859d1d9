#include "train/best_validations.h"

#include <algorithm>

namespace braid {

bool BestValidations::add(int64_t step, double loss, int64_t keep) {
  worse_for = best.empty() || loss < best.front().loss ? 0 : worse_for + 1;
  const auto place = std::ranges::upper_bound(best, loss, {}, &One::loss) - best.begin();
  best.insert(best.begin() + place, {step, loss});
  const auto remembered = static_cast<std::size_t>(std::max<int64_t>(1, keep));
  if (best.size() > remembered) {
    best.resize(remembered);
  }
  return place < keep;
}

std::vector<int64_t> BestValidations::steps() const {
  std::vector<int64_t> steps;
  std::ranges::transform(best, std::back_inserter(steps), &One::step);
  return steps;
}

}  // namespace braid
