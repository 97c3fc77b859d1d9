#pragma once
#include <memory>

#include <ATen/core/Tensor.h>

#include "model/attention.h"
#include "model/moe.h"
#include "model/pass.h"
#include "model/ranks.h"
#include "model/residual.h"

namespace braid {

/// One decoder layer: attention, then experts, each a sublayer within its residual connection.
/// Both sublayers take the streams X_BSMD and return them.
class Block {
 public:
  /// `index` is the layer's number; the MTP block continues the count of the decoder layers.
  Block(const Scope& scope,
        const ModelConfig& config,
        const LayerConfig& layer,
        int64_t index,
        const ModelRanks& ranks = {});

  /// The attention sublayer. Reports the indexer's loss and recall.
  at::Tensor attend(const at::Tensor& X_BSMD, const Pass& pass) const;

  /// The experts' sublayer, which ends the layer. Reports the experts' load, the router's loss and
  /// the streams.
  at::Tensor apply_experts(const at::Tensor& X_BSMD, const Pass& pass) const;

  const Moe& ffn() const { return ffn_; }

 private:
  /// The sublayer's input; shows an observer the mixing of streams.
  EnteredStreams enter(const Residual& residual,
                       const at::Tensor& X_BSMD,
                       const at::Tensor& norm_D,
                       const Pass& pass) const;
  void report(const Routing& routing, const Pass& pass) const;

  int64_t index_;
  std::unique_ptr<Residual> hc_attn_, hc_ffn_;
  at::Tensor attn_norm_, ffn_norm_;
  Attention attn_;
  Moe ffn_;
};

}  // namespace braid
