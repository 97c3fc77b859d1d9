#pragma once
// The CPU kernel of attention (kernels/attention.h): tiles of a few queries with all heads, whose
// keys are the stretch of raw tokens that they see and the entries that any of them sees, so that
// the work is matrix multiplication and no scores outside a tile exist.
#include <cstdint>

#include "kernels/attention_tiles.h"

namespace braid {

/// Arrays without gaps. T is the wide type: float, or double.
template <class T>
struct AttentionProblem {
  AttentionKeys keys;
  const uint8_t *q, *kv, *compressed;  ///< [B, S, N, H], [B, U, H], [B, C, H]: of T, or bfloat16
  const T* sink;                       ///< [N]
  int64_t H;
  T scale;
  bool bf16;  ///< what q, kv, compressed, o, do and dq are

  int64_t element_bytes() const { return bf16 ? 2 : static_cast<int64_t>(sizeof(T)); }
};

template <class T>
struct AttentionResults {
  uint8_t* o;  ///< [B, S, N, H]
  T* log_sum;  ///< [B, S, N]: of e^z, the sink included
};

template <class T>
struct AttentionGradients {
  const uint8_t* dout;           ///< given
  uint8_t* dq;                   ///< written
  T *dkv, *dcompressed, *dsink;  ///< added to
};

template <class T>
void attention_forward_cpu(const AttentionProblem<T>&, const AttentionResults<T>&);

/// Of the forward pass it needs log_sum.
template <class T>
void attention_backward_cpu(const AttentionProblem<T>&,
                            const T* log_sum,
                            const AttentionGradients<T>&);

}  // namespace braid
