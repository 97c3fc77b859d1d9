#include "optim/clip.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/Parallel.h>

#include "core/error.h"
#include "kernels/autograd.h"
#include "kernels/cpu/update_loops.h"

namespace braid {

template <class T>
double squared_norm(const T* x, int64_t count) {
  constexpr int64_t kPiece = 1 << 14;
  const int64_t pieces = (count + kPiece - 1) / kPiece;
  std::vector<double> sums(static_cast<std::size_t>(pieces));
  at::parallel_for(0, pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      sums[static_cast<std::size_t>(i)] =
          BRAID_CPU(sum_of_squares<T>)(x + i * kPiece, std::min(kPiece, count - i * kPiece));
    }
  });
  double sum = 0;
  for (const double piece : sums) {
    sum += piece;
  }
  return sum;
}
template double squared_norm<float>(const float*, int64_t);
template double squared_norm<double>(const double*, int64_t);

double squared_norm(const at::Tensor& x) {
  const auto type = x.scalar_type();
  require(x.is_contiguous() && (type == at::kFloat || type == at::kDouble),
          "[squared_norm] expected a contiguous float32 or float64 tensor, got ",
          type,
          " ",
          x.sizes(),
          x.is_contiguous() ? "" : " with gaps");
  double sum = 0;
  with_wide_type(type, [&](auto zero) {
    using T = decltype(zero);
    sum = squared_norm(x.const_data_ptr<T>(), x.numel());
  });
  return sum;
}

double clip_factor(double norm, std::optional<double> max_norm) {
  return max_norm && std::isfinite(norm) && norm > *max_norm ? *max_norm / norm : 1;
}

}  // namespace braid
