#include "kernels/update_cpu.h"

#include <algorithm>

#include <ATen/Parallel.h>

namespace braid {
namespace {

constexpr int64_t kGrain = 1 << 14;  // elements that are worth a thread

}  // namespace

template <class T>
double squared_norm_cpu(const T* x, int64_t count) {
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

template <class T>
void update_by_adamw_cpu(const AdamWProblem<T>& p) {
  at::parallel_for(0, p.count, kGrain, [&](int64_t begin, int64_t end) {
    BRAID_CPU(adamw_elements<T>)
    (p.value + begin,
     p.gradient + begin,
     p.exp_avg + begin,
     p.exp_avg_sq + begin,
     end - begin,
     p.factors);
  });
}

template <class T>
void update_by_muon_cpu(const MuonProblem<T>& p) {
  const int64_t elements = p.newton_schulz.rows * p.newton_schulz.cols;
  newton_schulz_cpu<T>(
      p.newton_schulz,
      [&](int64_t i, T* direction) {
        const auto& matrix = p.matrices[i];
        at::parallel_for(0, elements, kGrain, [&](int64_t begin, int64_t end) {
          BRAID_CPU(momentum_direction<T>)
          (matrix.gradient + begin,
           matrix.momentum + begin,
           direction + begin,
           end - begin,
           p.momentum,
           p.gradient_scale);
        });
      },
      [&](int64_t i, const T* update) {
        const auto& matrix = p.matrices[i];
        at::parallel_for(0, elements, kGrain, [&](int64_t begin, int64_t end) {
          BRAID_CPU(decayed_step<T>)
          (matrix.value + begin, update + begin, end - begin, matrix.decay, matrix.rate);
        });
      });
}

#define BRAID_INSTANTIATE(T)                                 \
  template double squared_norm_cpu(const T*, int64_t);       \
  template void update_by_adamw_cpu(const AdamWProblem<T>&); \
  template void update_by_muon_cpu(const MuonProblem<T>&);
BRAID_INSTANTIATE(double)
BRAID_INSTANTIATE(float)
#undef BRAID_INSTANTIATE

}  // namespace braid
