#include "kernels/sinkhorn_cpu.h"

#include "kernels/cpu/threads.h"

namespace braid {

template <class T>
void sinkhorn_forward_cpu(const SinkhornProblem<T>& p, T* matrix) {
  parallel_rows(p.tokens, 20 * p.iterations, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * p.M * p.M;
    BRAID_CPU(sinkhorn_forward<T>)
    (p.logits + first, matrix + first, end - begin, p.M, p.iterations, p.eps);
  });
}

template <class T>
void sinkhorn_backward_cpu(const SinkhornProblem<T>& p, const T* dmatrix, T* dlogits) {
  parallel_rows(p.tokens, 60 * p.iterations, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * p.M * p.M;
    BRAID_CPU(sinkhorn_backward<T>)
    (p.logits + first, dmatrix + first, dlogits + first, end - begin, p.M, p.iterations, p.eps);
  });
}

#define BRAID_INSTANTIATE(T)                                         \
  template void sinkhorn_forward_cpu(const SinkhornProblem<T>&, T*); \
  template void sinkhorn_backward_cpu(const SinkhornProblem<T>&, const T*, T*);
BRAID_INSTANTIATE(double)
BRAID_INSTANTIATE(float)
#undef BRAID_INSTANTIATE

}  // namespace braid
