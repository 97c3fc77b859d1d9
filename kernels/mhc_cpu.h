#pragma once
// The CPU driver of mhc.h: the problem, its results and gradients as cpu/mhc_loops.h names them,
// of all tokens.
#include "kernels/cpu/mhc_loops.h"
#include "kernels/cpu/sinkhorn_loops.h"  // kMaxStreams

namespace braid {

template <class E, class T>
void mhc_enter_forward_cpu(const MhcProblem<T>& problem,
                           const E* X,
                           const MhcResults<E, T>& results,
                           int64_t tokens);

/// Gradients of parameters are summed over parts of the tokens that depend on their number alone,
/// so that the bits do not depend on threads.
struct MhcParts {
  int64_t tokens, size;
  explicit MhcParts(int64_t tokens);
  int64_t count() const { return (tokens + size - 1) / size; }
};

/// dfn, dbase, dscale and dnorm are those of the first part; the next part's lie `stride` further.
template <class E, class T>
void mhc_enter_backward_cpu(const MhcProblem<T>& problem,
                            const E* X,
                            const MhcResults<E, T>& results,
                            const MhcGradients<E, T>& gradients,
                            const MhcParts& parts,
                            int64_t stride);

}  // namespace braid
