#pragma once
#include <memory>
#include <string>

#include <ATen/core/Tensor.h>

#include "model/attention.h"
#include "model/moe.h"
#include "model/residual.h"

namespace braid {

/// One decoder layer: attention, then experts, each within its residual connection.
class Block {
 public:
  /// `index` is the layer's number; the MTP block continues the count of the decoder layers.
  Block(const Scope& scope, const ModelConfig& config, const LayerConfig& layer, int64_t index);

  /// X_BSMD, the streams -> the streams after the layer.
  at::Tensor forward(at::Tensor X_BSMD,
                     const at::Tensor& ids_BS,
                     const Geometry& geometry,
                     AttentionState* state = nullptr,
                     Routing* routing = nullptr) const;

  const Moe& ffn() const { return ffn_; }

 private:
  double eps_;
  std::unique_ptr<Residual> hc_attn_, hc_ffn_;
  at::Tensor attn_norm_, ffn_norm_;
  Attention attn_;
  Moe ffn_;
};

}  // namespace braid
