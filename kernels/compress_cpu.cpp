#include "kernels/compress_cpu.h"

#include <algorithm>

#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/cpu/compress_loops.h"

namespace braid {
namespace {

template <class T>
PooledSequence<T> sequence(const CompressProblem<T>& p, int64_t b) {
  const bool overlap = p.previous != nullptr;
  return {p.projected + b * p.U * 2 * p.width,
          p.ape,
          p.rows + b * p.C * p.R,
          overlap ? p.previous + b * p.C * p.R : nullptr,
          overlap ? p.has_previous + b * p.C : nullptr,
          p.R,
          p.H,
          p.width};
}

}  // namespace

template <class T>
void compress_forward_cpu(const CompressProblem<T>& p, T* entries, T* log_sum) {
  for (int64_t b = 0; b < p.B; ++b) {
    const auto pooled = sequence(p, b);
    const int64_t first = b * p.C * p.H;
    parallel_rows(p.C, 4 * p.R * p.H, [&](int64_t begin, int64_t end) {
      BRAID_CPU(compress_forward<T>)(pooled, entries + first, log_sum + first, begin, end);
    });
  }
}

// A thread's share is a sequence's channels: whatever rows entries have in common, they are added
// to in the order of the entries.
template <class T>
void compress_backward_cpu(const CompressProblem<T>& p,
                           const T* entries,
                           const T* log_sum,
                           const T* dentries,
                           T* dprojected,
                           T* dape) {
  constexpr int64_t kChannels = 16;  // of a share: a cache line
  const int64_t shares = blocks(p.H, kChannels);
  parallel_rows(p.B * shares, 4 * p.C * kChannels, [&](int64_t first_share, int64_t end_share) {
    for (int64_t share = first_share; share < end_share; ++share) {
      const int64_t b = share / shares, begin = share % shares * kChannels, first = b * p.C * p.H;
      BRAID_CPU(compress_backward<T>)
      (sequence(p, b),
       entries + first,
       log_sum + first,
       dentries + first,
       dprojected + b * p.U * 2 * p.width,
       dape + b * p.R * p.width,
       p.C,
       begin,
       std::min(p.H, begin + kChannels));
    }
  });
}

#define BRAID_INSTANTIATE(T)                                             \
  template void compress_forward_cpu(const CompressProblem<T>&, T*, T*); \
  template void compress_backward_cpu(                                   \
      const CompressProblem<T>&, const T*, const T*, const T*, T*, T*);
BRAID_INSTANTIATE(float)
BRAID_INSTANTIATE(double)
#undef BRAID_INSTANTIATE

}  // namespace braid
