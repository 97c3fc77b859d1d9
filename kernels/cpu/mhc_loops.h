#pragma once
#include <cstdint>

#include "kernels/bfloat16.h"
#include "kernels/cpu/isa.h"

namespace braid {

/// What mhc.h's functions need of their arguments. K rows of fn: M (only pre) or (2 + M) M.
template <class T>
struct MhcProblem {
  int64_t M, D, K, iterations;
  T hc_eps, norm_eps;
  const T* fn;     // [K, M D]
  const T* base;   // [K]
  const T* scale;  // one for each group of rows: pre, post, mix
  const T* norm;   // [D]

  bool mixes() const { return K > M; }
  int64_t group_of(int64_t row) const { return row < M ? 0 : row < 2 * M ? 1 : 2; }
};

/// Of the first of a range of tokens; T is the wide type of E.
template <class E, class T>
struct MhcResults {
  E* h;            // [D]
  T *post, *mix;   // [M], [M, M]; where it mixes
  T *pre, *m;      // [M], [K]: for the backward pass
  T* inverse_rms;  // of the streams together
  T* inverse_rms_of_input;
};

/// Gradients that are given and wanted, of the first of a range of tokens. dX may be the carried
/// streams' own gradient, to which it is added, or that one is null.
template <class E, class T>
struct MhcGradients {
  const E *dh, *dcarried;
  const T *dpost, *dmix;
  E* dX;
  T *dfn, *dbase, *dscale, *dnorm;  // added to
};

/// The parts that go through the streams of a token at a time, beside the products with fn.
///
/// Forward: results.m holds X fn^T, which becomes m.
BRAID_DECLARE_CPU(template <class E, class T> void mhc_enter_forward(
    const MhcProblem<T>&, const E* X, const MhcResults<E, T>&, int64_t tokens))
/// Backward: all but dfn and one term of dX. slopes [tokens, K] are the gradient of X fn^T;
/// dX_wide [tokens, M D] is dX without slopes fn, and may be gradients.dX where E is T.
BRAID_DECLARE_CPU(template <class E, class T> void mhc_enter_backward(const MhcProblem<T>&,
                                                                      const E* X,
                                                                      const MhcResults<E, T>&,
                                                                      const MhcGradients<E, T>&,
                                                                      T* slopes,
                                                                      T* dX_wide,
                                                                      int64_t tokens))

}  // namespace braid
