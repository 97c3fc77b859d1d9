#pragma once
// The CPU driver of rope.h. E is the type of activations, T its wide type (precision.h).
#include <cstdint>

namespace braid {

/// One rotation for the N heads of a token.
template <class T>
struct RopeProblem {
  int64_t tokens, N, H;
  int64_t P;           // channels that rotate, the last ones of H
  const T *cos, *sin;  // [tokens, P/2]
  bool inverse;
};

/// x, y [tokens, N, H].
template <class E, class T>
void rope_cpu(const RopeProblem<T>& problem, const E* x, E* y);

}  // namespace braid
