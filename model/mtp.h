#pragma once
#include <ATen/core/Tensor.h>

#include "model/block.h"

namespace braid {

/// The multi-token prediction block (docs/equations.md (38) to (40)): from the trunk's streams at t
/// and the embedding of token t+1 it predicts token t+2. Shares embedding and head with the trunk.
class Mtp {
 public:
  Mtp(const Scope& scope, const ModelConfig& config, const ModelRanks& ranks = {});

  /// The block's streams, of streams_BSMD after the last decoder layer and next_embedding_BSD =
  /// embed(next_ids).
  at::Tensor forward(const at::Tensor& streams_BSMD,
                     const at::Tensor& next_embedding_BSD,
                     const Pass& pass) const;
  /// The normed hidden state [B, S, D] of the block's streams, which the shared head reads.
  at::Tensor output_hidden(const at::Tensor& X_BSMD) const;

  const Block& block() const { return block_; }

 private:
  at::Tensor input_streams(const at::Tensor& streams_BSMD,
                           const at::Tensor& next_embedding_BSD) const;

  double eps_;
  Linear e_proj_, h_proj_;
  at::Tensor enorm_, hnorm_, norm_;
  Block block_;
  StreamHead head_;
};

/// The id at t+1 within the same document; the filler 0 at a document's last token.
at::Tensor next_ids(const at::Tensor& ids_BS, const at::Tensor& documents_BS);

/// MTP targets out of next-token targets: the target at t+1 within the same document, else -100.
at::Tensor mtp_targets(const at::Tensor& targets_BS, const at::Tensor& documents_BS);

/// The weights of those targets out of the weights of next-token targets; 0 where there is none.
at::Tensor mtp_weights(const at::Tensor& weights_BS, const at::Tensor& documents_BS);

}  // namespace braid
