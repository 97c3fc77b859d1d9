#pragma once
#include <cstdint>

#include "kernels/cpu/isa.h"

namespace braid {

/// The part of attention between the two matrix products, on a tile of `queries` tokens x N heads
/// (rows) against J keys. T is float or double; float32 uses the exponential of loops.h. sees
/// [queries, J]: 1 where a query may look at a key. sink [N], log_sum [rows].

/// scores [rows, J], q . k -> probabilities, in place; log_sum receives log(sum of e^z, sink
/// included).
BRAID_DECLARE_CPU(template <class T> void attention_softmax(T* scores,
                                                            const uint8_t* sees,
                                                            const T* sink,
                                                            T* log_sum,
                                                            int64_t queries,
                                                            int64_t N,
                                                            int64_t J,
                                                            T scale))

/// scores -> probabilities again (from log_sum), dscores: gradient of the probabilities -> gradient
/// of q . k, both in place. dsink [N] is added to.
BRAID_DECLARE_CPU(template <class T> void attention_softmax_backward(T* scores,
                                                                     T* dscores,
                                                                     const uint8_t* sees,
                                                                     const T* sink,
                                                                     const T* log_sum,
                                                                     T* dsink,
                                                                     int64_t queries,
                                                                     int64_t N,
                                                                     int64_t J,
                                                                     T scale))

}  // namespace braid
