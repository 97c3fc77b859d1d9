#include <ATen/ATen.h>

#include "kernels/precision.h"
#include "kernels/rope.h"

namespace braid {

at::Tensor rope_reference(const at::Tensor& x,
                          const at::Tensor& cos,
                          const at::Tensor& sin,
                          bool inverse) {
  const int64_t P = 2 * cos.size(-1), H = x.size(-1);
  const auto pairs = widened(x.narrow(-1, H - P, P)).unflatten(-1, {P / 2, 2});
  const auto a = pairs.select(-1, 0), b = pairs.select(-1, 1);
  const auto sine = inverse ? -sin : sin;
  const auto rotated = at::stack({a * cos - b * sine, a * sine + b * cos}, -1).flatten(-2);
  return at::cat({x.narrow(-1, 0, H - P), rotated.to(x.scalar_type())}, -1);
}

}  // namespace braid
