#pragma once
#include <cstdint>

#include <ATen/core/Tensor.h>

namespace braid {

/// The numbers of core/random.h on the device of `counter_n` (int64 [n]): the four words of
/// philox(key, counter), int64 [n, 4] in [0, 2^32), of each.
at::Tensor philox_words(uint64_t key, const at::Tensor& counter_n);

}  // namespace braid
