#include "model/block.h"

#include <ATen/ATen.h>

#include "core/profile.h"
#include "kernels/rms_norm.h"

namespace braid {

Block::Block(const Scope& scope,
             const ModelConfig& config,
             const LayerConfig& layer,
             int64_t index,
             const ModelRanks& ranks)
    : eps_(config.rms_norm_eps),
      hc_attn_(make_residual(scope, "hc_attn", config, 2 * index)),
      hc_ffn_(make_residual(scope, "hc_ffn", config, 2 * index + 1)),
      attn_norm_(scope.constant("attn_norm.weight", {config.hidden_size}, 1)),
      ffn_norm_(scope.constant("ffn_norm.weight", {config.hidden_size}, 1)),
      attn_(scope.inner("attn"), config, layer),
      ffn_(scope.inner("ffn"), config, layer.routing, ranks.experts) {}

Block::Output Block::attend(const at::Tensor& X_BSMD,
                            const Geometry& geometry,
                            const PassOptions& options,
                            AttentionState* state,
                            LayerObservation* observation) const {
  const auto mixing = hc_attn_->mixing(X_BSMD);
  const auto collapsed_BSD = hc_attn_->collapse(X_BSMD, mixing);
  const auto h_BSD = profiled("norms", [&] { return rms_norm(collapsed_BSD, attn_norm_, eps_); });
  const auto attended = attn_.forward(h_BSD, geometry, options, state);
  if (observation != nullptr) {
    observation->indexer_recall_sum = attended.indexer_recall_sum;
  }
  return {hc_attn_->expand(X_BSMD, attended.y_BSD, mixing), attended.indexer_kl_sum};
}

Block::Output Block::consult_experts(const at::Tensor& X_BSMD,
                                     const Tokens& tokens,
                                     const PassOptions& options,
                                     LayerObservation* observation) const {
  const auto mixing = hc_ffn_->mixing(X_BSMD);
  const auto collapsed_BSD = hc_ffn_->collapse(X_BSMD, mixing);
  const auto x_BSD = profiled("norms", [&] { return rms_norm(collapsed_BSD, ffn_norm_, eps_); });
  const auto consulted = ffn_.forward(x_BSD, tokens.ids_BS);
  const auto& routing = consulted.routing;
  if (observation != nullptr) {
    observation->load_E = expert_load(routing, tokens.documents_BS);
  }
  const bool has_loss = options.balance_loss && ffn_.router().bias().defined();
  return {hc_ffn_->expand(X_BSMD, consulted.y_BSD, mixing),
          has_loss ? balance_loss_sum(routing, tokens.documents_BS) : at::Tensor()};
}

}  // namespace braid
