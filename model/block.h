#pragma once
#include <memory>
#include <string>

#include <ATen/core/Tensor.h>

#include "model/attention.h"
#include "model/moe.h"
#include "model/pass.h"
#include "model/ranks.h"
#include "model/residual.h"

namespace braid {

/// One decoder layer: attention, then experts, each a sublayer within its residual connection.
class Block {
 public:
  /// `index` is the layer's number; the MTP block continues the count of the decoder layers.
  Block(const Scope& scope,
        const ModelConfig& config,
        const LayerConfig& layer,
        int64_t index,
        const ModelRanks& ranks = {});

  struct Output {
    at::Tensor X_BSMD;    ///< the streams after the sublayer
    at::Tensor loss_sum;  ///< the sublayer's own loss; undefined when it has none
  };

  /// The attention sublayer. Its loss is the indexer's (options.indexer_loss). `observation`, if
  /// given, receives what the pass reports of the layer, losses excepted.
  Output attend(const at::Tensor& X_BSMD,
                const Geometry& geometry,
                const PassOptions& options,
                AttentionState* state = nullptr,
                LayerObservation* observation = nullptr) const;

  /// The experts' sublayer. Its loss is the router's (options.balance_loss). `tokens` are whole
  /// sequences, X_BSMD this rank's share of them.
  Output consult_experts(const at::Tensor& X_BSMD,
                         const Tokens& tokens,
                         const PassOptions& options,
                         LayerObservation* observation = nullptr) const;

  const Moe& ffn() const { return ffn_; }

 private:
  ContextRanks context_;
  std::unique_ptr<Residual> hc_attn_, hc_ffn_;
  at::Tensor attn_norm_, ffn_norm_;
  Attention attn_;
  Moe ffn_;
};

}  // namespace braid
