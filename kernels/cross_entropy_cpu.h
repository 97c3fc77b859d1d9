#pragma once
// The CPU driver of cross_entropy.h; T is float or double.
#include <cstdint>

namespace braid {

/// Rows of logits as kernels/cpu/cross_entropy_loops.h has them, in parallel; no target is
/// negative.
template <class T>
void cross_entropy_rows_cpu(T* logits,
                            const int64_t* targets,
                            const T* weights,
                            T* losses,
                            int64_t rows,
                            int64_t V,
                            bool gradients);

}  // namespace braid
