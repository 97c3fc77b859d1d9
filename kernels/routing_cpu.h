#pragma once
// The CPU driver of routing.h; T is float or double.
#include <cstdint>

namespace braid {

/// The K experts of each token are chosen by scores + bias, or, without a bias, given.
template <class T>
struct RoutingProblem {
  int64_t tokens, E, K;
  T scaling;
  const T* logits;  // [tokens, E]
  const T* bias;    // [E], or null
};

/// scores [tokens, E], weights [tokens, K]; experts [tokens, K] are read or written.
template <class T>
void routing_forward_cpu(const RoutingProblem<T>& problem, int64_t* experts, T* scores, T* weights);

/// dlogits [tokens, E] from the gradients of scores (or null) and of weights.
template <class T>
void routing_backward_cpu(const RoutingProblem<T>& problem,
                          const int64_t* experts,
                          const T* scores,
                          const T* dscores,
                          const T* dweights,
                          T* dlogits);

}  // namespace braid
