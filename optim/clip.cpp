#include "optim/clip.h"

#include <cmath>

namespace braid {

double clip_factor(double norm, std::optional<double> max_norm) {
  return max_norm && std::isfinite(norm) && norm > *max_norm ? *max_norm / norm : 1;
}

}  // namespace braid
