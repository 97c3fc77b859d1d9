#include "model/transformer.h"

#include <ATen/ATen.h>

#include "core/profile.h"
#include "core/sizes.h"
#include "kernels/cross_entropy.h"
#include "kernels/precision.h"
#include "kernels/weight.h"
#include "model/recompute.h"

namespace braid {

at::ScalarType parameter_type(at::ScalarType compute) {
  return wide_type(compute);
}

Tokens whole_documents(const at::Tensor& ids_BS) {
  return {ids_BS, at::zeros_like(ids_BS), at::arange(ids_BS.size(1), at::kLong).expand_as(ids_BS)};
}

Transformer::Transformer(const ModelConfig& config,
                         at::ScalarType compute,
                         uint64_t seed,
                         const WeightSource* source,
                         const ModelRanks& ranks)
    : config_(config),
      compute_(compute),
      context_(ranks.context),
      parameters_(parameter_type(compute), seed, config.initializer_range, source) {
  config.validate();
  const Scope root(parameters_, "");
  embed_VD_ = root.normal("embed.weight", {config.vocab_size, config.hidden_size});
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    layers_.emplace_back(root.inner(text("layers.", i)), config, config.layer(i), i, ranks);
  }
  stream_head_ = std::make_unique<StreamHead>(root, config);
  norm_D_ = root.constant("norm.weight", {config.hidden_size}, 1);
  head_VD_ = root.normal("head.weight", {config.vocab_size, config.hidden_size});
  if (config.num_nextn_predict_layers > 0) {
    mtp_.emplace(root.inner("mtp.0"), config, ranks);
  }
}

at::Tensor Transformer::embedded(const at::Tensor& ids_BS) const {
  return at::embedding(embed_VD_, ids_BS).to(compute_);
}

Hidden Transformer::forward(const Tokens& tokens,
                            const PassOptions& options,
                            Observations* observations) const {
  const auto geometry = profiled("geometry", [&] {
    return std::make_shared<const Geometry>(packed_geometry(
        config_, tokens.documents_BS, tokens.positions_BS, wide_type(compute_), context_));
  });
  const auto X_BSMD = run(tokens, geometry, options, nullptr, observations);
  return {normed(X_BSMD), X_BSMD, geometry};
}

Hidden Transformer::forward(const at::Tensor& ids_BS, DecodeState& state) const {
  const auto [B, S] = sizes<2>(ids_BS);
  state.layers.resize(layers_.size());
  const auto geometry = std::make_shared<const Geometry>(
      incremental_geometry(config_, B, state.past, S, wide_type(compute_)));
  const auto X_BSMD = run({ids_BS, {}, {}}, geometry, {}, &state, nullptr);
  state.past += S;
  return {normed(X_BSMD), X_BSMD, geometry};
}

at::Tensor Transformer::normed(const at::Tensor& X_BSMD) const {
  return stream_head_->forward(X_BSMD, norm_D_);
}

namespace {

// Where the loss of an attention (even) or of experts (odd) is reported.
at::Tensor& loss_of(LayerObservation& observation, int64_t sublayer) {
  return sublayer % 2 == 0 ? observation.indexer_kl_sum : observation.balance_sum;
}

at::Tensor run_segment(const Segment& segment,
                       const at::Tensor& X,
                       const PassOptions& options,
                       int64_t first,
                       int64_t end,
                       LayerObservation* observations) {
  const auto results =
      options.recompute_sublayers > 0 ? recomputed(segment, X) : segment(X, /*again=*/false);
  // The segment left each loss as it computed it; out of `recomputed` it comes with a gradient.
  std::size_t next = 1;
  for (int64_t i = first; i < end && observations != nullptr; ++i) {
    if (auto& loss_sum = loss_of(observations[i / 2], i); loss_sum.defined()) {
      loss_sum = results[next++];
    }
  }
  return results[0];
}

}  // namespace

// One sublayer of a segment: streams in results[0], losses behind them.
void Transformer::add_sublayer(const Block& block,
                               int64_t sublayer,
                               const Tokens& tokens,
                               const Geometry& geometry,
                               const PassOptions& options,
                               AttentionState* state,
                               LayerObservation* observation,
                               std::vector<at::Tensor>& results) const {
  const auto output = sublayer % 2 == 0
                          ? block.attend(results[0], geometry, options, state, observation)
                          : block.consult_experts(results[0], tokens, options, observation);
  results[0] = output.X_BSMD;
  if (output.loss_sum.defined()) {
    results.push_back(output.loss_sum);
  }
  if (observation != nullptr) {
    loss_of(*observation, sublayer) = output.loss_sum;
  }
}

// Sublayers 2 l (attention) and 2 l + 1 (experts) of the layers, in segments.
at::Tensor Transformer::run(const Tokens& tokens,
                            const std::shared_ptr<const Geometry>& geometry,
                            const PassOptions& options,
                            DecodeState* state,
                            Observations* observations) const {
  const auto ids_BS = own_share(tokens.ids_BS);
  const auto [B, S] = sizes<2>(ids_BS);
  auto X_BSMD = profiled("embedding", [&, B = B, S = S] {
    return embedded(ids_BS).unsqueeze(2).expand({B, S, config_.num_streams(), config_.hidden_size});
  });
  if (observations != nullptr) {
    observations->layers.resize(layers_.size());
  }
  auto* observed = observations != nullptr ? observations->layers.data() : nullptr;
  const int64_t count = 2 * config_.num_hidden_layers;
  // A segment ends with its layer where the streams are kept.
  const bool longer = options.recompute_sublayers > 0 && !options.keep_streams;
  const int64_t length = longer ? options.recompute_sublayers : 2;
  for (int64_t first = 0; first < count; first += length) {
    const int64_t end = std::min(count, first + length);
    const Segment segment = [=, this](const at::Tensor& X, bool again) {
      std::vector<at::Tensor> results = {X};
      for (int64_t i = first; i < end; ++i) {
        add_sublayer(layers_[i / 2],
                     i,
                     tokens,
                     *geometry,
                     options,
                     state != nullptr ? &state->layers[i / 2] : nullptr,
                     observed != nullptr && !again ? &observed[i / 2] : nullptr,
                     results);
      }
      return results;
    };
    X_BSMD = run_segment(segment, X_BSMD, options, first, end, observed);
    if (observations != nullptr && observations->on_layer) {
      observations->on_layer(end / 2 - 1);
    }
    if (options.keep_streams) {
      observations->streams_BSMD.push_back(X_BSMD);
    }
  }
  return X_BSMD;
}

at::Tensor Transformer::mtp_forward(const Tokens& tokens,
                                    const Hidden& hidden,
                                    const PassOptions& options,
                                    Observations* observations) const {
  require(mtp_.has_value(), "[mtp] the model has no MTP block (num_nextn_predict_layers is 0)");
  const ProfileScope whole("MTP", ProfileKind::kWhole);
  auto* observed = observations != nullptr ? &observations->layers.emplace_back() : nullptr;
  const Segment segment = [=, this, geometry = hidden.geometry](const at::Tensor& X, bool again) {
    const ProfileScope again_whole("MTP", ProfileKind::kWhole);
    const auto next_embedding_BSD =
        embedded(own_share(next_ids(tokens.ids_BS, tokens.documents_BS)));
    std::vector<at::Tensor> results = {mtp_->entered(X, next_embedding_BSD)};
    for (const int64_t i : {0, 1}) {
      add_sublayer(mtp_->block(),
                   i,
                   tokens,
                   *geometry,
                   options,
                   nullptr,
                   again ? nullptr : observed,
                   results);
    }
    return results;
  };
  return mtp_->left(run_segment(segment, hidden.streams_BSMD, options, 0, 2, observed));
}

at::Tensor Transformer::logits(const at::Tensor& hidden) const {
  return project(widened(hidden), head_VD_);
}

at::Tensor Transformer::cross_entropy_sum(const at::Tensor& hidden_BSD,
                                          const at::Tensor& targets_BS) const {
  const ProfileScope scope("head and loss");
  return braid::cross_entropy_sum(hidden_BSD.flatten(0, 1), head_VD_, targets_BS.flatten());
}

at::Tensor Transformer::cross_entropy_each(const at::Tensor& hidden_BSD,
                                           const at::Tensor& targets_BS) const {
  return braid::cross_entropy_each(hidden_BSD.flatten(0, 1), head_VD_, targets_BS.flatten())
      .view(targets_BS.sizes());
}

std::vector<at::Tensor> Transformer::routing_biases() const {
  std::vector<at::Tensor> biases;
  for (const auto& layer : layers_) {
    biases.push_back(layer.ffn().router().bias());
  }
  if (mtp_) {
    biases.push_back(mtp_->block().ffn().router().bias());
  }
  return biases;
}

}  // namespace braid
