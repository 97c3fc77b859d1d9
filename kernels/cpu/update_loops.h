#pragma once
#include <cstdint>

#include "kernels/cpu/isa.h"

namespace braid {

/// What an optimizer does to each element, in one pass over memory. T is float or double.

/// sum_i x[i]^2 in double, in a fixed order.
BRAID_DECLARE_CPU(template <class T> double sum_of_squares(const T* x, int64_t count))

/// The numbers of one AdamW step (optim/adamw.h): fresh = 1 - beta, decay = 1 - learning_rate *
/// weight_decay, rate = learning_rate / (1 - beta1^step), root = sqrt(1 - beta2^step).
template <class T>
struct AdamWFactors {
  T beta1, fresh1, beta2, fresh2, epsilon, decay, rate, root, gradient_scale;
};
BRAID_DECLARE_CPU(template <class T> void adamw_elements(T* value,
                                                         const T* gradient,
                                                         T* exp_avg,
                                                         T* exp_avg_sq,
                                                         int64_t count,
                                                         const AdamWFactors<T>& factors))

/// m <- mu m + s g,  x = mu m + s g.
BRAID_DECLARE_CPU(template <class T> void momentum_direction(
    const T* gradient, T* momentum, T* x, int64_t count, T mu, T gradient_scale))

/// x[i] / by, in place.
BRAID_DECLARE_CPU(template <class T> void divide_elements(T* x, int64_t count, T by))

/// square <- b a + c square.
BRAID_DECLARE_CPU(template <class T>
                  void polynomial_elements(const T* a, T* square, int64_t count, T b, T c))

/// value <- decay value - rate update.
BRAID_DECLARE_CPU(template <class T>
                  void decayed_step(T* value, const T* update, int64_t count, T decay, T rate))

}  // namespace braid
