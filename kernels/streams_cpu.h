#pragma once
// The CPU driver of streams.h. E is the type of activations, T its wide type (precision.h).
#include <cstdint>

namespace braid {

/// M streams of width D.
template <class T>
struct CollapseProblem {
  int64_t tokens, M, D;
  const T* X;    // [tokens, M, D]
  const T* pre;  // [tokens, M]
};

/// x [tokens, D].
template <class T>
void collapse_forward_cpu(const CollapseProblem<T>& problem, T* x);
template <class T>
void collapse_backward_cpu(const CollapseProblem<T>& problem, const T* dx, T* dX, T* dpre);

template <class E, class T>
struct ExpandProblem {
  int64_t tokens, M, D;
  const E* X;     // [tokens, M, D]
  const E* y;     // [tokens, D]
  const T* post;  // [tokens, M]
  const T* mix;   // [tokens, M, M]
};

template <class E, class T>
struct ExpandGradients {
  E *dX, *dy;
  T *dpost, *dmix;
};

/// out [tokens, M, D].
template <class E, class T>
void expand_forward_cpu(const ExpandProblem<E, T>& problem, E* out);
/// Whether dX may be where dout is, for M streams.
constexpr bool expands_in_place(int64_t M) {
  return M == 4;
}
template <class E, class T>
void expand_backward_cpu(const ExpandProblem<E, T>& problem,
                         const E* dout,
                         const ExpandGradients<E, T>& gradients);

}  // namespace braid
