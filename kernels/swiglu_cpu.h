#pragma once
// The CPU driver of swiglu.h. E is the type of activations, T its wide type (precision.h).
#include <cstdint>

namespace braid {

template <class E, class T>
struct SwigluProblem {
  int64_t rows, F;
  T limit;
  const E *gate, *up;  // [rows, F]
  const T* weight;     // [rows], a factor of each row's result, or null
};

/// h [rows, F].
template <class E, class T>
void swiglu_forward_cpu(const SwigluProblem<E, T>& problem, E* h);

/// dgate, dup [rows, F]; dweight [rows], null without a weight.
template <class E, class T>
void swiglu_backward_cpu(
    const SwigluProblem<E, T>& problem, const E* dh, E* dgate, E* dup, T* dweight);

}  // namespace braid
