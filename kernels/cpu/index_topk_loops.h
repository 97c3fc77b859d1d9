#pragma once
#include <cstdint>
#include <type_traits>

#include "kernels/cpu/isa.h"

namespace braid {

/// Entries of a panel of keys.
inline constexpr int64_t kPanelEntries = 64;

/// scores [kPanelEntries] = sum over heads of weight relu(products); products [heads,
/// kPanelEntries].
BRAID_DECLARE_CPU(template <class T> void weighted_relu_rows(
    const T* products, const T* weight, T* scores, int64_t heads))

/// Writes those of scores[0, count) that are above the threshold, and where they stand, counted
/// from `first`; returns how many. There must be room for all: what is behind the last is
/// overwritten.
BRAID_DECLARE_CPU(template <class T> int64_t append_above(
    const T* scores, int64_t count, T threshold, int64_t first, T* above, int64_t* places))

/// Integers as wide as T, which a number's bits can be ordered as.
template <class T>
using OrderedBits = std::conditional_t<sizeof(T) == sizeof(int32_t), int32_t, int64_t>;

/// The k-th largest of `count` numbers, 1 <= k <= count, none of them NaN; scratch has room for
/// `count`.
BRAID_DECLARE_CPU(template <class T> T kth_largest(
    const T* numbers, int64_t count, int64_t k, OrderedBits<T>* scratch))

}  // namespace braid
