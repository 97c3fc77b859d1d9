#include "kernels/routing_cpu.h"

#include "kernels/cpu/routing_loops.h"
#include "kernels/cpu/threads.h"

namespace braid {

template <class T>
void routing_forward_cpu(const RoutingProblem<T>& p, int64_t* experts, T* scores, T* weights) {
  const int64_t E = p.E, K = p.K;
  parallel_rows(p.tokens, 4 * E, [&](int64_t begin, int64_t end) {
    T* rows = scores + begin * E;
    int64_t* chosen = experts + begin * K;
    BRAID_CPU(routing_scores<T>)(p.logits + begin * E, rows, (end - begin) * E);
    if (p.bias != nullptr) {
      BRAID_CPU(choose_experts<T>)(rows, p.bias, chosen, end - begin, E, K);
    }
    BRAID_CPU(routing_weights<T>)
    (rows, chosen, weights + begin * K, p.scaling, end - begin, E, K);
  });
}

template <class T>
void routing_backward_cpu(const RoutingProblem<T>& p,
                          const int64_t* experts,
                          const T* scores,
                          const T* dscores,
                          const T* dweights,
                          T* dlogits) {
  const int64_t E = p.E, K = p.K;
  parallel_rows(p.tokens, 4 * E, [&](int64_t begin, int64_t end) {
    BRAID_CPU(routing_backward<T>)
    (p.logits + begin * E,
     scores + begin * E,
     experts + begin * K,
     dscores != nullptr ? dscores + begin * E : nullptr,
     dweights + begin * K,
     dlogits + begin * E,
     p.scaling,
     end - begin,
     E,
     K);
  });
}

#define BRAID_INSTANTIATE(T)                                                     \
  template void routing_forward_cpu(const RoutingProblem<T>&, int64_t*, T*, T*); \
  template void routing_backward_cpu(                                            \
      const RoutingProblem<T>&, const int64_t*, const T*, const T*, const T*, T*);
BRAID_INSTANTIATE(double)
BRAID_INSTANTIATE(float)
#undef BRAID_INSTANTIATE

}  // namespace braid
