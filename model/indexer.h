#pragma once
#include <ATen/core/Tensor.h>

#include "model/compressor.h"

namespace braid {

/// The lightning indexer of a CSA layer: cheap scores that choose which compressed entries a query
/// attends to (architecture.md 2.8).  Its scores never enter the attention logits, so the
/// language-model loss gives its parameters no gradient.
class Indexer {
 public:
  Indexer(const Scope& scope, const ModelConfig& config, int64_t ratio);

  /// I_{t,c} = sum_h w_{t,h} relu(iq_{t,h} . ik_c), wide, [B, S, C], over all entries (not yet
  /// masked). qr_BSL is the query latent that the attention uses, h_BSD the attention's input.
  at::Tensor scores(const at::Tensor& qr_BSL,
                    const at::Tensor& h_BSD,
                    const Geometry& geometry,
                    CompressorState* state) const;

 private:
  at::Tensor rotated_fp4(const at::Tensor& x) const;

  int64_t num_heads_, head_dim_;
  at::Tensor hadamard_HH_;  // of qat_indexer, else undefined
  Weight wq_b_;
  at::Tensor weights_proj_;
  Compressor compressor_;
};

/// The k visible entries with the highest scores of each query; of equal scores the lower index
/// wins. scores_BSC, visible_BSC -> bool [B, S, C] with at most k set per query, all of them
/// visible.
at::Tensor top_entries(const at::Tensor& scores_BSC, const at::Tensor& visible_BSC, int64_t k);

}  // namespace braid
