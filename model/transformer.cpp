#include "model/transformer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/profile.h"
#include "core/sizes.h"
#include "kernels/cross_entropy.h"
#include "kernels/precision.h"
#include "model/observer.h"
#include "model/recompute.h"

namespace braid {

at::ScalarType parameter_type(at::ScalarType compute) {
  return wide_type(compute);
}

Tokens whole_documents(const at::Tensor& ids_BS) {
  const auto position_S = at::arange(ids_BS.size(1), ids_BS.options().dtype(at::kLong));
  return {ids_BS, at::zeros_like(ids_BS), position_S.expand_as(ids_BS)};
}

LayerObservation& Observations::of_layer(int64_t layer) {
  const auto index = static_cast<std::size_t>(layer);
  if (index >= layers.size()) {
    layers.resize(index + 1);
  }
  return layers[index];
}

Transformer::Transformer(const ModelConfig& config,
                         at::ScalarType compute,
                         uint64_t seed,
                         const WeightSource* source,
                         const ModelRanks& ranks,
                         at::Device device,
                         std::optional<LoraConfig> lora,
                         bool working_copies)
    : config_(config),
      compute_(compute),
      context_(ranks.context),
      parameters_(parameter_type(compute),
                  seed,
                  config.initializer_range,
                  source,
                  device,
                  std::move(lora),
                  working_copies && compute == at::kBFloat16 && !device.is_cpu()) {
  config.validate();
  const Scope root(parameters_, "");
  embed_VD_ = root.normal("embed.weight", {config.vocab_size, config.hidden_size});
  embed_adapter_ = parameters_.adapter("embed.weight", {config.hidden_size, config.vocab_size});
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    blocks_.emplace_back(root.inner(text("layers.", i)), config, config.layer(i), i, ranks);
  }
  stream_head_ = std::make_unique<StreamHead>(root, config);
  norm_D_ = root.constant("norm.weight", {config.hidden_size}, 1);
  head_ = root.wide_linear("head.weight", {config.vocab_size, config.hidden_size});
  if (config.num_nextn_predict_layers > 0) {
    mtp_.emplace(root.inner("mtp.0"), config, ranks);
  }
  if (const auto& stream = parameters_.expert_stream()) {
    stream->make_buffers();
  }
}

at::Tensor Transformer::embedded(const at::Tensor& ids_BS) const {
  const auto x_BSD = at::embedding(embed_VD_, ids_BS);
  return (embed_adapter_ && embed_adapter_->is_on() ? x_BSD + embed_adapter_->look_up(ids_BS)
                                                    : x_BSD)
      .to(compute_);
}

at::Tensor Transformer::streams_of(const at::Tensor& x_BSD) const {
  const auto [B, S, D] = sizes<3>(x_BSD);
  return x_BSD.unsqueeze(2).expand({B, S, config_.num_streams(), D});
}

std::shared_ptr<const Geometry> Transformer::geometry_of(const Tokens& tokens,
                                                         const DecodeState* state) const {
  const ProfileScope scope("geometry");
  const auto type = wide_type(compute_);
  const auto [B, S] = sizes<2>(tokens.ids_BS);
  const auto geometry =
      state != nullptr
          ? incremental_geometry(config_, B, state->past, S, type)
          : packed_geometry(config_, tokens.documents_BS, tokens.positions_BS, type, context_);
  return std::make_shared<const Geometry>(geometry.to(device()));
}

Hidden Transformer::forward(const Tokens& tokens,
                            const PassOptions& options,
                            Observations* observations,
                            DecodeState* state) const {
  parameters_.lora_use()->key = options.dropout_key;
  const Pass pass{on_device(own_share(tokens.ids_BS)),
                  geometry_of(tokens, state),
                  options,
                  observations,
                  state};
  if (options.observer != nullptr) {
    options.observer->begin(*pass.geometry);
  }
  if (const auto& stream = parameters_.expert_stream()) {
    stream->begin_pass(/*returns=*/at::GradMode::is_enabled());
  }
  auto X_BSMD = profiled("embedding", [&] { return streams_of(embedded(pass.ids_BS)); });
  if (options.recompute_sublayers > 0) {
    X_BSMD = recomputed_blocks(blocks_, X_BSMD, pass);
  } else {
    for (const auto& block : blocks_) {
      X_BSMD = block.attend(X_BSMD, pass);
      X_BSMD = block.apply_experts(X_BSMD, pass);
    }
  }
  return {stream_head_->forward(X_BSMD, norm_D_), X_BSMD, pass.geometry};
}

Hidden Transformer::forward(const at::Tensor& ids_BS, DecodeState& state) const {
  state.layers.resize(blocks_.size());
  const auto hidden = forward({ids_BS, {}, {}}, {}, nullptr, &state);
  state.past += ids_BS.size(1);
  return hidden;
}

at::Tensor Transformer::mtp_forward(const Tokens& tokens,
                                    const Hidden& hidden,
                                    const PassOptions& options,
                                    Observations* observations) const {
  require(mtp_.has_value(), "[mtp] the model has no MTP block (num_nextn_predict_layers is 0)");
  const ProfileScope whole("MTP", ProfileKind::kWhole);
  const auto next_BS = on_device(own_share(next_ids(tokens.ids_BS, tokens.documents_BS)));
  const Pass pass{
      on_device(own_share(tokens.ids_BS)), hidden.geometry, options, observations, nullptr};
  const Segment block = [=, this](const at::Tensor& X_BSMD, const Pass& own_pass) {
    const ProfileScope again_whole("MTP", ProfileKind::kWhole);
    return mtp_->forward(X_BSMD, embedded(next_BS), own_pass);
  };
  const auto& X_BSMD = hidden.streams_BSMD;
  return mtp_->output_hidden(options.recompute_sublayers > 0 ? recomputed(block, X_BSMD, pass)
                                                             : block(X_BSMD, pass));
}

at::Tensor Transformer::logits(const at::Tensor& hidden) const {
  return head_.forward(widened(hidden));
}

at::Tensor Transformer::cross_entropy_sum(const at::Tensor& hidden_BSD,
                                          const at::Tensor& targets_BS,
                                          const at::Tensor& weights_BS) const {
  const ProfileScope scope("head and loss");
  return braid::cross_entropy_sum(
      hidden_BSD.flatten(0, 1),
      head_.values(),
      on_device(targets_BS.flatten()),
      weights_BS.defined() ? on_device(weights_BS.flatten()) : at::Tensor());
}

at::Tensor Transformer::cross_entropy_each(const at::Tensor& hidden_BSD,
                                           const at::Tensor& targets_BS) const {
  return braid::cross_entropy_each(
             hidden_BSD.flatten(0, 1), head_.values(), on_device(targets_BS.flatten()))
      .view(targets_BS.sizes());
}

std::vector<at::Tensor> Transformer::routing_biases() const {
  std::vector<at::Tensor> biases;
  for (const auto& block : blocks_) {
    biases.push_back(block.ffn().router().bias());
  }
  if (mtp_) {
    biases.push_back(mtp_->block().ffn().router().bias());
  }
  return biases;
}

WithoutAdapters::WithoutAdapters(const Transformer& model)
    : use_(model.parameters().lora_use()), before_(use_->off) {
  use_->off = true;
}

WithoutAdapters::~WithoutAdapters() {
  use_->off = before_;
}

UseQat::UseQat(const Transformer& model, bool on)
    : use_(model.parameters().qat_use()), before_(use_->on) {
  use_->on = on;
}

UseQat::~UseQat() {
  use_->on = before_;
}

}  // namespace braid
