#pragma once
#include <cstdint>

#include "kernels/cpu/isa.h"

namespace braid {

/// scores = sqrt(softplus(logits)), both [count].
BRAID_DECLARE_CPU(template <class T> void routing_scores(const T* logits, T* scores, int64_t count))

/// experts [T, K]: the K experts of the highest scores + bias, best first; of equals the lower.
/// A sum that is not a number counts as the lowest.
BRAID_DECLARE_CPU(template <class T> void choose_experts(
    const T* scores, const T* bias, int64_t* experts, int64_t tokens, int64_t E, int64_t K))

/// weights [T, K] = scaling * the experts' scores / their sum.
BRAID_DECLARE_CPU(template <class T> void routing_weights(const T* scores,
                                                          const int64_t* experts,
                                                          T* weights,
                                                          T scaling,
                                                          int64_t tokens,
                                                          int64_t E,
                                                          int64_t K))

/// dlogits [T, E] from the gradients of scores (or null) and of weights.
BRAID_DECLARE_CPU(template <class T> void routing_backward(const T* logits,
                                                           const T* scores,
                                                           const int64_t* experts,
                                                           const T* dscores,
                                                           const T* dweights,
                                                           T* dlogits,
                                                           T scaling,
                                                           int64_t tokens,
                                                           int64_t E,
                                                           int64_t K))

}  // namespace braid
