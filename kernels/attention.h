#pragma once
#include "kernels/visibility.h"

namespace braid {

/// Shared-KV attention over a window of raw tokens, compressed entries and a sink, in one softmax:
///
///   z_{h,s} = scale q_h . kv_s (s in the window), z_{h,c} = scale q_h . compressed_c (c visible)
///   o_h = (sum_s e^z kv_s + sum_c e^z compressed_c) / (sum_s e^z + sum_c e^z + e^{sink_h})
///
/// q_BSNH, kv_BUH, compressed_BCH one float type (C may be 0); sink_N wide, a raw logit whose value
/// is zero. A query may see nothing: its output is zero. Nothing of size S x U or S x C exists.
/// Softmax and sums are wide; the result has q's type. Of bfloat16 tensors the probabilities and
/// the scores' gradients are rounded too (by 2^-9 of each) before they are multiplied, where the
/// machine multiplies pairs. Source: DeepSeek-V4 report 2.3, release code. Gradients: q, kv,
/// compressed, sink. Key numbers out of range are an error on the CPU (kernels/device.h).
at::Tensor attention(const at::Tensor& q_BSNH,
                     const at::Tensor& kv_BUH,
                     const at::Tensor& compressed_BCH,
                     const at::Tensor& sink_N,
                     const KeyRange& window,
                     const SeenEntries& entries,
                     double scale);

/// The same in plain LibTorch, by chunks of queries where all scores would take more than
/// kTwinScoreBytes (kernels/query_chunks.h).
at::Tensor attention_reference(const at::Tensor& q_BSNH,
                               const at::Tensor& kv_BUH,
                               const at::Tensor& compressed_BCH,
                               const at::Tensor& sink_N,
                               const KeyRange& window,
                               const SeenEntries& entries,
                               double scale);
/// The same, `at_once` queries at a time.
at::Tensor attention_reference_in_chunks(const at::Tensor& q_BSNH,
                                         const at::Tensor& kv_BUH,
                                         const at::Tensor& compressed_BCH,
                                         const at::Tensor& sink_N,
                                         const KeyRange& window,
                                         const SeenEntries& entries,
                                         double scale,
                                         int64_t at_once);

}  // namespace braid
