#include "kernels/streams_cpu.h"

#include "kernels/bfloat16.h"
#include "kernels/cpu/streams_loops.h"
#include "kernels/cpu/threads.h"

namespace braid {

template <class T>
void collapse_forward_cpu(const CollapseProblem<T>& p, T* x) {
  const int64_t M = p.M, D = p.D;
  parallel_rows(p.tokens, M * D / 4, [&](int64_t begin, int64_t end) {
    BRAID_CPU(collapse_forward<T>)
    (p.X + begin * M * D, p.pre + begin * M, x + begin * D, end - begin, M, D);
  });
}

template <class T>
void collapse_backward_cpu(const CollapseProblem<T>& p, const T* dx, T* dX, T* dpre) {
  const int64_t M = p.M, D = p.D;
  parallel_rows(p.tokens, M * D / 2, [&](int64_t begin, int64_t end) {
    BRAID_CPU(collapse_backward<T>)
    (p.X + begin * M * D,
     p.pre + begin * M,
     dx + begin * D,
     dX + begin * M * D,
     dpre + begin * M,
     end - begin,
     M,
     D);
  });
}

template <class E, class T>
void expand_forward_cpu(const ExpandProblem<E, T>& p, E* out) {
  const int64_t M = p.M, D = p.D;
  parallel_rows(p.tokens, M * M * D / 16, [&](int64_t begin, int64_t end) {
    BRAID_CPU(expand_forward<E, T>)
    (p.X + begin * M * D,
     p.y + begin * D,
     p.post + begin * M,
     p.mix + begin * M * M,
     out + begin * M * D,
     end - begin,
     M,
     D);
  });
}

template <class E, class T>
void expand_backward_cpu(const ExpandProblem<E, T>& p,
                         const E* dout,
                         const ExpandGradients<E, T>& g) {
  const int64_t M = p.M, D = p.D;
  parallel_rows(p.tokens, M * M * D / 8, [&](int64_t begin, int64_t end) {
    BRAID_CPU(expand_backward<E, T>)
    (p.X + begin * M * D,
     p.y + begin * D,
     p.post + begin * M,
     p.mix + begin * M * M,
     dout + begin * M * D,
     g.dX + begin * M * D,
     g.dy + begin * D,
     g.dpost + begin * M,
     g.dmix + begin * M * M,
     end - begin,
     M,
     D);
  });
}

#define BRAID_INSTANTIATE(T)                                         \
  template void collapse_forward_cpu(const CollapseProblem<T>&, T*); \
  template void collapse_backward_cpu(const CollapseProblem<T>&, const T*, T*, T*);
BRAID_INSTANTIATE(double)
BRAID_INSTANTIATE(float)
#undef BRAID_INSTANTIATE

#define BRAID_INSTANTIATE(E, T)                                     \
  template void expand_forward_cpu(const ExpandProblem<E, T>&, E*); \
  template void expand_backward_cpu(                                \
      const ExpandProblem<E, T>&, const E*, const ExpandGradients<E, T>&);
BRAID_INSTANTIATE(double, double)
BRAID_INSTANTIATE(float, float)
BRAID_INSTANTIATE(Bfloat16, float)
#undef BRAID_INSTANTIATE

}  // namespace braid
