#include "kernels/cross_entropy_cpu.h"

#include "kernels/cpu/cross_entropy_loops.h"
#include "kernels/cpu/threads.h"

namespace braid {

template <class T>
void cross_entropy_rows_cpu(T* logits,
                            const int64_t* targets,
                            const T* weights,
                            T* losses,
                            int64_t rows,
                            int64_t V,
                            bool gradients) {
  parallel_rows(rows, V, [&](int64_t begin, int64_t end) {
    BRAID_CPU(cross_entropy_rows<T>)
    (logits + begin * V,
     targets + begin,
     weights == nullptr ? nullptr : weights + begin,
     losses + begin,
     end - begin,
     V,
     gradients);
  });
}

template void cross_entropy_rows_cpu(
    double*, const int64_t*, const double*, double*, int64_t, int64_t, bool);
template void cross_entropy_rows_cpu(
    float*, const int64_t*, const float*, float*, int64_t, int64_t, bool);

}  // namespace braid
