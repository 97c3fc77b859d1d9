#include "optim/rounding_noise.h"

#include <limits>

namespace braid {

bool is_rounding_noise(const SquareSum& gradient, const SquareSum& all, at::ScalarType type) {
  const double epsilon = type == at::kDouble ? std::numeric_limits<double>::epsilon()
                                             : std::numeric_limits<float>::epsilon();
  const double roundoff = epsilon / 2;
  const auto mean = [](const SquareSum& s) { return s.sum / static_cast<double>(s.elements); };
  return gradient.elements > 0 && gradient.sum > 0 &&
         mean(gradient) < roundoff * roundoff * mean(all);
}

}  // namespace braid
