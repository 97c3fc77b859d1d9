#pragma once
#include <ATen/core/Tensor.h>

namespace braid {

/// Which rows of a buffer pool into which entries.
struct PooledRows {
  at::Tensor rows_BCR;         ///< int64: an entry's own R tokens
  at::Tensor previous_BCR;     ///< int64: with overlap, the R tokens before them; else undefined
  at::Tensor has_previous_BC;  ///< bool: with overlap, whether there are such tokens

  PooledRows to(at::Device device) const;
};

/// Pools R tokens into one entry (2 R with overlap): for each channel, a softmax over the tokens of
/// gate + ape weighs their keys,
///
///   e = sum_i P_i k_i,  P = softmax_i(g_i + ape_i).
///
/// projected_BUX wide: a token's keys, then as many gates. ape [R, X / 2], one row for each of an
/// entry's tokens. An entry has X / 2 channels; with overlap X / 4: the first half of keys, gates
/// and ape serves the tokens before, the second half the entry's own.  -> entries [B, C, channels].
/// Row numbers out of range are an error on the CPU (kernels/device.h).
/// Gradients: projected (rows that pool nowhere: exactly 0), ape. Source:
/// docs/equations.md (21), (22), (60).
at::Tensor compress(const at::Tensor& projected_BUX,
                    const at::Tensor& ape,
                    const PooledRows& pooled);

/// The same in plain LibTorch.
at::Tensor compress_reference(const at::Tensor& projected_BUX,
                              const at::Tensor& ape,
                              const PooledRows& pooled);

}  // namespace braid
