#pragma once
#include <cstdint>

#include "kernels/cpu/isa.h"

namespace braid {

/// The parts of the indexer's loss between the matrix products, on tiles whose rows are J keys.
/// Columns are heads x Q: a head's Q queries stand side by side; Q is a power of two up to 16, and
/// J Q a multiple of 16. T is float or double.

/// Log-sum-exp of each column, running: takes the rows of z [J, columns] into largest and sum
/// [columns].
BRAID_DECLARE_CPU(template <class T>
                  void add_to_log_sums(const T* z, T* largest, T* sum, int64_t J, int64_t columns))

/// mass [J, Q] = sum over heads of e^(z - shift); z [J, heads Q] is overwritten.
BRAID_DECLARE_CPU(template <class T> void sum_of_heads(
    T* z, const T* shift, T* mass, int64_t J, int64_t heads, int64_t Q))

/// scores [J, Q] = sum over heads of weight relu(products), products [J, heads Q], weight [heads
/// Q].
BRAID_DECLARE_CPU(template <class T> void weighted_relu_columns(
    const T* products, const T* weight, T* scores, int64_t J, int64_t heads, int64_t Q))

/// Over the rows of each query's set, seen [J, Q]: mass -> target p, scores -> softmax of the
/// scores - p, 0 outside, both in place; kl [Q] = sum p (log p - log softmax).
BRAID_DECLARE_CPU(template <class T> void divergence(
    T* mass, T* scores, const uint8_t* seen, T* kl, int64_t J, int64_t Q))

/// Backward of weighted_relu_columns: products -> their gradient, in place; adds to dweight.
BRAID_DECLARE_CPU(template <class T> void weighted_relu_columns_backward(T* products,
                                                                         const T* weight,
                                                                         const T* dscores,
                                                                         T* dweight,
                                                                         int64_t J,
                                                                         int64_t heads,
                                                                         int64_t Q))

}  // namespace braid
