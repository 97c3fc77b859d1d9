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
#include "kernels/weight.h"

namespace braid {

Attention::Attention(const Scope& scope, const ModelConfig& config, const LayerConfig& layer)
    : layer_(layer),
      num_heads_(config.num_attention_heads),
      head_dim_(config.head_dim),
      groups_(config.o_groups),
      window_(config.sliding_window),
      topk_(config.index_topk),
      eps_(config.rms_norm_eps) {
  const int64_t D = config.hidden_size, L = config.q_lora_rank, N = num_heads_, H = head_dim_;
  sink_ = scope.constant("attn_sink", {N}, 0);
  wq_a_ = scope.matrix("wq_a.weight", {L, D});
  q_norm_ = scope.constant("q_norm.weight", {L}, 1);
  wq_b_ = scope.matrix("wq_b.weight", {N * H, L});
  wkv_ = scope.matrix("wkv.weight", {H, D});
  kv_norm_ = scope.constant("kv_norm.weight", {H}, 1);
  wo_a_ = scope.matrix("wo_a.weight", {groups_ * config.o_lora_rank, N * H / groups_});
  wo_b_ = scope.matrix("wo_b.weight", {D, groups_ * config.o_lora_rank});
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
                                     AttentionState* state) const {
  const ProfileScope projections("attention projections");
  const auto [B, S, D] = sizes<3>(h_BSD);
  const auto& rotation =
      layer_.compresses() ? geometry.compress_rotation : geometry.window_rotation;
  const auto cos_BS1P = rotation.cos.unsqueeze(2), sin_BS1P = rotation.sin.unsqueeze(2);

  const auto of_h = project_each(h_BSD, {wq_a_, wkv_});
  const auto qr_BSL = rms_norm(of_h[0], q_norm_, eps_);
  const auto q_heads = project(qr_BSL, wq_b_).view({B, S, num_heads_, head_dim_});
  const auto q_BSNH = rope(rms_norm(q_heads, {}, eps_), cos_BS1P, sin_BS1P);
  auto kv_BUH = rope(rms_norm(of_h[1], kv_norm_, eps_), rotation.cos, rotation.sin);
  const bool full = layer_.attention == AttentionKind::kFull;
  if (state != nullptr) {
    if (state->kv_BUH.defined()) {
      kv_BUH = at::cat({state->kv_BUH, kv_BUH}, 1);
    }
    const int64_t kept = full ? kv_BUH.size(1) : std::min(kv_BUH.size(1), window_ - 1);
    state->kv_BUH = kv_BUH.narrow(1, kv_BUH.size(1) - kept, kept);
  }
  kv_BUH = with_rows_before(
      geometry.ranks, kv_BUH, full ? geometry.full_rows_before : geometry.window_rows_before);

  const auto& raw = full ? geometry.full : geometry.window;
  auto compressed_BCH = kv_BUH.narrow(1, 0, 0);
  SeenEntries seen{{at::zeros({B, S}, at::kLong), at::zeros({B, S}, at::kLong)}, {}};
  std::optional<IndexParts> index;
  if (compressor_) {
    const ProfileScope scope("compressor");
    compressed_BCH = compressor_->forward(h_BSD, geometry, state ? &state->compressor : nullptr);
    seen.range = geometry.compression.at(layer_.ratio).visible;
  }
  if (indexer_ && needs_index(compressed_BCH.size(1), options, state)) {
    const ProfileScope scope("indexer");
    // Only its own loss trains the indexer, and trains nothing else.
    const at::AutoGradMode only_for_its_loss(options.indexer_loss && at::GradMode::is_enabled());
    index = indexer_->parts(
        qr_BSL.detach(), h_BSD.detach(), geometry, state ? &state->indexer : nullptr);
    if (topk_ && !options.dense_attention && *topk_ < compressed_BCH.size(1)) {
      seen.chosen_BSK = index_topk(
          widened(index->q_BSIH), widened(index->keys_BCH), index->weight_BSI, seen.range, *topk_);
    }
  }
  const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim_));
  const auto o_BSNH = profiled("attention core", [&] {
    return attention(q_BSNH, kv_BUH, compressed_BCH, sink_, raw, seen, scale);
  });
  Output result{output(rope(o_BSNH, cos_BS1P, sin_BS1P, /*inverse=*/true)), {}, {}};
  if (options.indexer_loss && indexer_) {
    const ProfileScope scope("indexer loss");
    const int64_t recalled = topk_ && options.dense_attention ? *topk_ : 0;
    const auto loss =
        indexer_kl(*index, {q_BSNH, kv_BUH, compressed_BCH, sink_, raw, scale}, seen, recalled);
    result.indexer_kl_sum = loss.kl_sum;
    if (recalled > 0) {
      result.indexer_recall_sum = loss.recall_sum;
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

at::Tensor Attention::output(const at::Tensor& o_BSNH) const {
  const auto [B, S, N, H] = sizes<4>(o_BSNH);
  // Each group of heads has its own projection: block-diagonal, then one matrix over all latents.
  const auto latent_TGO = grouped_project(o_BSNH.reshape({B * S, groups_, N * H / groups_}), wo_a_);
  return project(latent_TGO.reshape({B, S, -1}), wo_b_);
}

}  // namespace braid
