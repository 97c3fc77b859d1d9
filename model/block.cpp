#include "model/block.h"

#include <ATen/ATen.h>

#include "kernels/rms_norm.h"

namespace braid {

Block::Block(const Scope& scope, const ModelConfig& config, const LayerConfig& layer, int64_t index)
    : eps_(config.rms_norm_eps),
      hc_attn_(make_residual(scope, "hc_attn", config, 2 * index)),
      hc_ffn_(make_residual(scope, "hc_ffn", config, 2 * index + 1)),
      attn_norm_(scope.constant("attn_norm.weight", {config.hidden_size}, 1)),
      ffn_norm_(scope.constant("ffn_norm.weight", {config.hidden_size}, 1)),
      attn_(scope.inner("attn"), config, layer),
      ffn_(scope.inner("ffn"), config, layer.routing) {}

at::Tensor Block::forward(at::Tensor X_BSMD,
                          const at::Tensor& ids_BS,
                          const Geometry& geometry,
                          AttentionState* state,
                          Routing* routing) const {
  auto mixing = hc_attn_->mixing(X_BSMD);
  const auto h_BSD = rms_norm(hc_attn_->collapse(X_BSMD, mixing), attn_norm_, eps_);
  X_BSMD = hc_attn_->expand(X_BSMD, attn_.forward(h_BSD, geometry, state), mixing);

  mixing = hc_ffn_->mixing(X_BSMD);
  const auto x_BSD = rms_norm(hc_ffn_->collapse(X_BSMD, mixing), ffn_norm_, eps_);
  return hc_ffn_->expand(X_BSMD, ffn_.forward(x_BSD, ids_BS, routing), mixing);
}

}  // namespace braid
