#include "model/attention.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/profile.h"
#include "core/sizes.h"
#include "kernels/attention.h"
#include "kernels/index_topk.h"
#include "kernels/indexer_kl.h"
#include "kernels/precision.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"

namespace braid {

Attention::Attention(const Scope& scope, const ModelConfig& config, const LayerConfig& layer)
    : layer_(layer),
      num_heads_(config.num_attention_heads),
      head_dim_(config.head_dim),
      groups_(config.o_groups),
      topk_(config.index_topk),
      eps_(config.rms_norm_eps) {
  const int64_t D = config.hidden_size, L = config.q_lora_rank, N = num_heads_, H = head_dim_;
  sink_ = scope.constant("attn_sink", {N}, 0);
  wq_a_ = scope.linear("wq_a.weight", {L, D});
  q_norm_ = scope.constant("q_norm.weight", {L}, 1);
  wq_b_ = scope.linear("wq_b.weight", {N * H, L});
  wkv_ = scope.linear("wkv.weight", {H, D});
  kv_norm_ = scope.constant("kv_norm.weight", {H}, 1);
  wo_a_ = scope.linear("wo_a.weight", {groups_ * config.o_lora_rank, N * H / groups_});
  wo_b_ = scope.linear("wo_b.weight", {D, groups_ * config.o_lora_rank});
  if (layer.compresses()) {
    const bool overlap = layer.attention == AttentionKind::kCsa;
    compressor_.emplace(scope.inner("compressor"), D, H, layer.ratio, overlap, eps_);
    if (overlap) {
      indexer_.emplace(scope.inner("indexer"), config, layer.ratio);
    }
  }
}

Attention::Output Attention::forward(const at::Tensor& h_BSD,
                                     const Geometry& geometry,
                                     const PassOptions& options,
                                     AttentionState* state,
                                     LayerObserver shown) const {
  const ProfileScope scope("attention projections");
  const auto& rotation =
      layer_.compresses() ? geometry.compress_rotation : geometry.window_rotation;
  const auto& seen_raw = geometry.raw.at(layer_.window).visible;
  const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim_));

  const auto [latent_BSL, q_BSNH, kv_BSH] = projections(h_BSD, rotation);
  const auto kv_BUH = raw_keys(kv_BSH, geometry, state);
  const auto compressed = compressed_keys(h_BSD, latent_BSL, geometry, options, state);
  const auto o_BSNH = profiled("attention core", [&, &q_BSNH = q_BSNH] {
    return attention(q_BSNH, kv_BUH, compressed.keys_BCH, sink_, seen_raw, compressed.seen, scale);
  });
  Output result{output(o_BSNH, rotation), {}, {}};
  const AttentionTeacher inputs{q_BSNH, kv_BUH, compressed.keys_BCH, sink_, seen_raw, scale};
  report_indexer_loss(compressed, inputs, options, result);
  if (shown.observer != nullptr) {
    shown.observer->attention(shown.layer, inputs, compressed.seen);
  }
  return result;
}

Attention::Projections Attention::projections(const at::Tensor& h_BSD,
                                              const Rotation& rotation) const {
  const auto [B, S, D] = sizes<3>(h_BSD);
  const auto of_h = forward_each(h_BSD, {wq_a_, wkv_});
  const auto latent_BSL = rms_norm(of_h[0], q_norm_, eps_);
  const auto heads_BSNH = wq_b_.forward(latent_BSL).view({B, S, num_heads_, head_dim_});
  const auto q_BSNH =
      rope(rms_norm(heads_BSNH, {}, eps_), rotation.cos.unsqueeze(2), rotation.sin.unsqueeze(2));
  const auto kv_BSH = rope(rms_norm(of_h[1], kv_norm_, eps_), rotation.cos, rotation.sin);
  return {latent_BSL, q_BSNH, kv_BSH};
}

// Those of this pass behind the ones that earlier tokens left in the state, or that the ranks to
// the left have.
at::Tensor Attention::raw_keys(const at::Tensor& kv_BSH,
                               const Geometry& geometry,
                               AttentionState* state) const {
  auto kv_BUH = kv_BSH;
  if (state != nullptr) {
    if (state->kv_BUH.defined()) {
      kv_BUH = at::cat({state->kv_BUH, kv_BUH}, 1);
    }
    const int64_t kept = kept_raw_keys(layer_.window, kv_BUH.size(1));
    state->kv_BUH = kv_BUH.narrow(1, kv_BUH.size(1) - kept, kept);
  }
  return with_rows_before(geometry.ranks, kv_BUH, geometry.raw.at(layer_.window).rows_before);
}

// The compressed entries, and which of them each query sees.
Attention::CompressedKeys Attention::compressed_keys(const at::Tensor& h_BSD,
                                                     const at::Tensor& latent_BSL,
                                                     const Geometry& geometry,
                                                     const PassOptions& options,
                                                     AttentionState* state) const {
  if (!compressor_) {
    const auto [B, S, D] = sizes<3>(h_BSD);
    const auto none_BS = at::zeros({B, S}, h_BSD.options().dtype(at::kLong));
    return {at::empty({B, 0, head_dim_}, h_BSD.options()), {{none_BS, none_BS}, {}}, {}};
  }
  CompressedKeys result;
  result.keys_BCH = profiled("compressor", [&] {
    return compressor_->forward(h_BSD, geometry, state ? &state->compressor : nullptr);
  });
  const int64_t entries = result.keys_BCH.size(1);
  result.seen.range = geometry.compression.at(layer_.ratio).visible;
  if (indexer_ && needs_index(entries, options, state)) {
    const ProfileScope scope("indexer");
    // Only its own loss trains the indexer, and trains nothing else.
    const at::AutoGradMode only_for_its_loss(options.indexer_loss && at::GradMode::is_enabled());
    result.index = indexer_->parts(
        latent_BSL.detach(), h_BSD.detach(), geometry, state ? &state->indexer : nullptr);
    if (topk_ && !options.dense_attention && *topk_ < entries) {
      const auto& [q_BSIH, keys_BCH, weight_BSI] = *result.index;
      result.seen.chosen_BSK = index_topk(q_BSIH, keys_BCH, weight_BSI, result.seen.range, *topk_);
    }
  }
  return result;
}

// A selection that keeps everything needs no scores; but a loss does, and a state must be fed.
bool Attention::needs_index(int64_t entries,
                            const PassOptions& options,
                            const AttentionState* state) const {
  const bool selects = topk_ && !options.dense_attention;
  return options.indexer_loss || (selects && (state != nullptr || *topk_ < entries));
}

at::Tensor Attention::output(const at::Tensor& o_BSNH, const Rotation& rotation) const {
  const auto [B, S, N, H] = sizes<4>(o_BSNH);
  const auto unrotated_BSNH =
      rope(o_BSNH, rotation.cos.unsqueeze(2), rotation.sin.unsqueeze(2), /*inverse=*/true);
  // Each group of heads has its own projection: block-diagonal, then one matrix over all latents.
  const auto latent_TGO =
      wo_a_.forward_grouped(unrotated_BSNH.reshape({B * S, groups_, N * H / groups_}));
  return wo_b_.forward(latent_TGO.reshape({B, S, -1}));
}

// The loss of the indexer's scores against this attention, and what its top-k would have caught.
void Attention::report_indexer_loss(const CompressedKeys& compressed,
                                    const AttentionTeacher& teacher,
                                    const PassOptions& options,
                                    Output& result) const {
  if (!options.indexer_loss || !indexer_) {
    return;
  }
  const ProfileScope scope("indexer loss");
  const int64_t recalled = topk_ && options.dense_attention ? *topk_ : 0;
  const auto loss = indexer_kl(*compressed.index, teacher, compressed.seen, recalled);
  result.indexer_kl_sum = loss.kl_sum;
  if (recalled > 0) {
    result.indexer_recall_sum = loss.recall_sum;
  }
}

}  // namespace braid
