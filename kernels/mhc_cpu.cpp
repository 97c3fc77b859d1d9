#include "kernels/mhc_cpu.h"

#include <algorithm>

#include "kernels/cpu/threads.h"

namespace braid {
namespace {

// A row of `width` numbers further on, of an array that need not be there.
template <class P>
P* row(P* first, int64_t index, int64_t width) {
  return first != nullptr ? first + index * width : nullptr;
}

template <class E, class T>
MhcResults<E, T> from_token(const MhcResults<E, T>& r, const MhcProblem<T>& p, int64_t token) {
  return {row(r.h, token, p.D),
          row(r.post, token, p.M),
          row(r.mix, token, p.M * p.M),
          row(r.pre, token, p.M),
          row(r.m, token, p.K),
          r.inverse_rms + token,
          r.inverse_rms_of_input + token};
}

template <class E, class T>
MhcGradients<E, T> from_token(const MhcGradients<E, T>& g, const MhcProblem<T>& p, int64_t token) {
  return {row(g.dh, token, p.D),
          row(g.dcarried, token, p.M * p.D),
          row(g.dpost, token, p.M),
          row(g.dmix, token, p.M * p.M),
          row(g.dX, token, p.M * p.D),
          g.dfn,
          g.dbase,
          g.dscale,
          g.dnorm};
}

}  // namespace

template <class E, class T>
void mhc_enter_forward_cpu(const MhcProblem<T>& p,
                           const E* X,
                           const MhcResults<E, T>& results,
                           int64_t tokens) {
  parallel_rows(tokens, p.M * p.D * 3, [&](int64_t begin, int64_t end) {
    BRAID_CPU(mhc_enter_forward<E, T>)
    (p, X + begin * p.M * p.D, from_token(results, p, begin), end - begin);
  });
}

MhcParts::MhcParts(int64_t all)
    : tokens(all), size(std::max<int64_t>(128, (all + 255) / 256 * 16)) {}

template <class E, class T>
void mhc_enter_backward_cpu(const MhcProblem<T>& p,
                            const E* X,
                            const MhcResults<E, T>& results,
                            const MhcGradients<E, T>& gradients,
                            const MhcParts& parts,
                            int64_t stride) {
  for_each_of(parts.count(), [&](int64_t part) {
    const int64_t begin = part * parts.size, end = std::min(parts.tokens, begin + parts.size);
    auto g = from_token(gradients, p, begin);
    for (T** sums : {&g.dfn, &g.dbase, &g.dscale, &g.dnorm}) {
      *sums += part * stride;
    }
    BRAID_CPU(mhc_enter_backward<E, T>)
    (p, X + begin * p.M * p.D, from_token(results, p, begin), g, end - begin);
  });
}

#define BRAID_INSTANTIATE(E, T)                                          \
  template void mhc_enter_forward_cpu(                                   \
      const MhcProblem<T>&, const E*, const MhcResults<E, T>&, int64_t); \
  template void mhc_enter_backward_cpu(const MhcProblem<T>&,             \
                                       const E*,                         \
                                       const MhcResults<E, T>&,          \
                                       const MhcGradients<E, T>&,        \
                                       const MhcParts&,                  \
                                       int64_t);
BRAID_INSTANTIATE(double, double)
BRAID_INSTANTIATE(float, float)
BRAID_INSTANTIATE(Bfloat16, float)
#undef BRAID_INSTANTIATE

}  // namespace braid
