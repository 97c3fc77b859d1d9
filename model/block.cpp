#include "model/block.h"

#include <ATen/ATen.h>

#include "core/profile.h"

namespace braid {

Block::Block(const Scope& scope,
             const ModelConfig& config,
             const LayerConfig& layer,
             int64_t index,
             const ModelRanks& ranks)
    : index_(index),
      hc_attn_(make_residual(scope, "hc_attn", config, 2 * index)),
      hc_ffn_(make_residual(scope, "hc_ffn", config, 2 * index + 1)),
      attn_norm_(scope.constant("attn_norm.weight", {config.hidden_size}, 1)),
      ffn_norm_(scope.constant("ffn_norm.weight", {config.hidden_size}, 1)),
      attn_(scope.inner("attn"), config, layer),
      ffn_(scope.inner("ffn"), config, layer.routing, ranks.experts) {}

EnteredStreams Block::enter(const Residual& residual,
                            const at::Tensor& X_BSMD,
                            const at::Tensor& norm_D,
                            const Pass& pass) const {
  const ProfileScope scope("residual in");
  auto entered = residual.enter(X_BSMD, norm_D);
  if (pass.options.observer != nullptr && entered.mix_TMM.defined()) {
    pass.options.observer->residual(index_, entered.mix_TMM);
  }
  return entered;
}

at::Tensor Block::attend(const at::Tensor& X_BSMD, const Pass& pass) const {
  const auto input = enter(*hc_attn_, X_BSMD, attn_norm_, pass);
  auto* state = pass.state != nullptr ? &pass.state->layers.at(index_) : nullptr;
  const auto attended = attn_.forward(
      input.h_TD, *pass.geometry, pass.options, state, {pass.options.observer, index_});
  if (pass.observations != nullptr) {
    auto& layer = pass.observations->of_layer(index_);
    layer.indexer_kl_sum = attended.indexer_kl_sum;
    layer.indexer_recall_sum = attended.indexer_recall_sum;
  }
  const ProfileScope scope("residual out");
  return hc_attn_->leave(input, attended.y_BSD);
}

at::Tensor Block::apply_experts(const at::Tensor& X_BSMD, const Pass& pass) const {
  const auto input = enter(*hc_ffn_, X_BSMD, ffn_norm_, pass);
  const auto output = ffn_.forward(
      input.h_TD, pass.ids_BS, pass.given_experts(index_), {pass.options.observer, index_});
  if (pass.observations != nullptr) {
    report(output.routing, pass);
  }
  const auto Y_BSMD = profiled("residual out", [&] { return hc_ffn_->leave(input, output.y_BSD); });
  if (pass.observations != nullptr && pass.options.keep_streams) {
    pass.observations->streams_BSMD.push_back(Y_BSMD);
  }
  if (pass.observations != nullptr && pass.observations->on_layer) {
    pass.observations->on_layer(index_);
  }
  return Y_BSMD;
}

void Block::report(const Routing& routing, const Pass& pass) const {
  auto& layer = pass.observations->of_layer(index_);
  const auto& geometry = *pass.geometry;
  layer.load_E = expert_load(routing, geometry.documents);
  const bool is_learned = ffn_.router().bias().defined();
  if (pass.options.keep_experts && is_learned) {
    layer.experts_TK = routing.experts_TK;
  }
  if (pass.options.balance_loss && is_learned) {
    const ProfileScope scope("router");
    layer.balance_sum = balance_loss_sum(routing, geometry.documents, geometry.ranks);
  }
}

}  // namespace braid
