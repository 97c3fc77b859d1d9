#pragma once
#include <ATen/core/Tensor.h>

#include "kernels/indexer_kl.h"
#include "model/compressor.h"

namespace braid {

/// The lightning indexer of a CSA layer: cheap scores that choose which compressed entries a query
/// attends to (docs/equations.md (25), (26)). Its scores never enter the attention logits, so the
/// language-model loss gives its parameters no gradient.
class Indexer {
 public:
  Indexer(const Scope& scope, const ModelConfig& config, int64_t ratio);

  /// What scores are made of (kernels/index_topk.h): queries, keys of all entries, and the heads'
  /// weights with the scale 1 / sqrt(H I). qr_BSL is the query latent that the attention uses,
  /// h_BSD the attention's input. The state, if any, is fed.
  IndexParts parts(const at::Tensor& qr_BSL,
                   const at::Tensor& h_BSD,
                   const Geometry& geometry,
                   CompressorState* state) const;

 private:
  at::Tensor rotated_fp4(const at::Tensor& x) const;

  int64_t num_heads_, head_dim_;
  at::Tensor hadamard_HH_;  // of qat_indexer, else undefined
  std::shared_ptr<const QatUse> qat_use_;
  Linear wq_b_, weights_proj_;
  Compressor compressor_;
};

}  // namespace braid
