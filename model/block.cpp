#include "model/block.h"

#include <ATen/ATen.h>

#include "core/profile.h"

namespace braid {

Block::Block(const Scope& scope,
             const ModelConfig& config,
             const LayerConfig& layer,
             int64_t index,
             const ModelRanks& ranks)
    : context_(ranks.context),
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
  const auto entered = profiled("residual in", [&] { return hc_attn_->enter(X_BSMD, attn_norm_); });
  const auto attended = attn_.forward(entered.h_TD, geometry, options, state);
  if (observation != nullptr) {
    observation->indexer_recall_sum = attended.indexer_recall_sum;
  }
  const ProfileScope scope("residual out");
  return {hc_attn_->leave(entered, attended.y_BSD), attended.indexer_kl_sum};
}

Block::Output Block::consult_experts(const at::Tensor& X_BSMD,
                                     const Tokens& tokens,
                                     const PassOptions& options,
                                     LayerObservation* observation) const {
  const auto entered = profiled("residual in", [&] { return hc_ffn_->enter(X_BSMD, ffn_norm_); });
  const auto consulted = ffn_.forward(entered.h_TD, context_.own_share(tokens.ids_BS));
  const auto& routing = consulted.routing;
  if (observation != nullptr) {
    observation->load_E = expert_load(routing, context_.own_share(tokens.documents_BS));
  }
  at::Tensor loss_sum;
  if (options.balance_loss && ffn_.router().bias().defined()) {
    loss_sum = profiled("router",
                        [&] { return balance_loss_sum(routing, tokens.documents_BS, context_); });
  }
  const ProfileScope scope("residual out");
  return {hc_ffn_->leave(entered, consulted.y_BSD), loss_sum};
}

}  // namespace braid
