#include "model/transformer.h"

#include <ATen/ATen.h>

#include "core/sizes.h"
#include "kernels/precision.h"
#include "kernels/rms_norm.h"

namespace braid {

at::ScalarType parameter_type(at::ScalarType compute) {
  return wide_type(compute);
}

Tokens whole_documents(const at::Tensor& ids_BS) {
  return {ids_BS, at::zeros_like(ids_BS), at::arange(ids_BS.size(1), at::kLong).expand_as(ids_BS)};
}

Transformer::Transformer(const ModelConfig& config, at::ScalarType compute, uint64_t seed)
    : config_(config),
      compute_(compute),
      parameters_(parameter_type(compute), seed, config.initializer_range) {
  config.validate();
  const Scope root(parameters_, "");
  embed_VD_ = root.normal("embed.weight", {config.vocab_size, config.hidden_size});
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    layers_.emplace_back(root.inner(text("layers.", i)), config, config.layer(i), i);
  }
  stream_head_ = std::make_unique<StreamHead>(root, config);
  norm_D_ = root.constant("norm.weight", {config.hidden_size}, 1);
  head_VD_ = root.normal("head.weight", {config.vocab_size, config.hidden_size});
  if (config.num_nextn_predict_layers > 0) {
    mtp_.emplace(root.inner("mtp.0"), config);
  }
}

at::Tensor Transformer::embedded(const at::Tensor& ids_BS) const {
  return at::embedding(embed_VD_, ids_BS).to(compute_);
}

Hidden Transformer::forward(const Tokens& tokens, Observations* observations) const {
  const auto type = wide_type(compute_);
  const auto geometry = packed_geometry(config_, tokens.documents_BS, tokens.positions_BS, type);
  return run(tokens.ids_BS, geometry, nullptr, observations);
}

Hidden Transformer::forward(const at::Tensor& ids_BS, DecodeState& state) const {
  const auto [B, S] = sizes<2>(ids_BS);
  state.layers.resize(layers_.size());
  const auto geometry = incremental_geometry(config_, B, state.past, S, wide_type(compute_));
  auto hidden = run(ids_BS, geometry, &state, nullptr);
  state.past += S;
  return hidden;
}

Hidden Transformer::run(const at::Tensor& ids_BS,
                        const Geometry& geometry,
                        DecodeState* state,
                        Observations* observations) const {
  const auto [B, S] = sizes<2>(ids_BS);
  const int64_t M = config_.num_streams();
  auto X_BSMD = embedded(ids_BS).unsqueeze(2).expand({B, S, M, config_.hidden_size});
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    Routing routing;
    X_BSMD =
        layers_[i].forward(X_BSMD, ids_BS, geometry, state ? &state->layers[i] : nullptr, &routing);
    if (observations != nullptr) {
      observations->streams_BSMD.push_back(X_BSMD);
      observations->routing.push_back(routing);
    }
  }
  return {rms_norm(stream_head_->forward(X_BSMD), norm_D_, config_.rms_norm_eps), X_BSMD};
}

at::Tensor Transformer::mtp_forward(const Tokens& tokens,
                                    const Hidden& hidden,
                                    Observations* observations) const {
  require(mtp_.has_value(), "[mtp] the model has no MTP block (num_nextn_predict_layers is 0)");
  const auto geometry =
      packed_geometry(config_, tokens.documents_BS, tokens.positions_BS, wide_type(compute_));
  const auto next_embedding_BSD = embedded(next_ids(tokens.ids_BS, tokens.documents_BS));
  Routing routing;
  auto result =
      mtp_->forward(hidden.streams_BSMD, next_embedding_BSD, tokens.ids_BS, geometry, &routing);
  if (observations != nullptr) {
    observations->routing.push_back(routing);
  }
  return result;
}

at::Tensor Transformer::logits(const at::Tensor& hidden) const {
  return project(widened(hidden), head_VD_);
}

std::vector<at::Tensor> Transformer::routing_biases() const {
  std::vector<at::Tensor> biases;
  for (const auto& layer : layers_) {
    biases.push_back(layer.ffn().router().bias());
  }
  if (mtp_) {
    biases.push_back(mtp_->ffn().router().bias());
  }
  return biases;
}

}  // namespace braid
