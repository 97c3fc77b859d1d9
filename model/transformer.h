#pragma once
#include <memory>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "model/block.h"
#include "model/mtp.h"
#include "model/pass.h"

namespace braid {

/// The type of activations; parameters are float64 in a float64 model and float32 otherwise.
at::ScalarType parameter_type(at::ScalarType compute);

struct Hidden {
  at::Tensor final_BSD;     ///< normed, what the head reads
  at::Tensor streams_BSMD;  ///< after the last decoder layer, what the MTP block reads
  std::shared_ptr<const Geometry> geometry;  ///< of the pass
};

/// A model of the DeepSeek-V4 design (docs/equations.md (1)).
class Transformer {
 public:
  /// Initial values are a pure function of (seed, release name, element), or come from a source.
  /// With several `ranks`, whose groups must outlive the model, this is one rank's share of it.
  /// Parameters are on `device`, and so are all results; tokens and targets are given on the host.
  /// `lora` says which matrices have adapters (none of a model that is used without). A bfloat16
  /// model on another device than the CPU has working copies of what its products round, unless it
  /// is to have none.
  Transformer(const ModelConfig& config,
              at::ScalarType compute,
              uint64_t seed,
              const WeightSource* source = nullptr,
              const ModelRanks& ranks = {},
              at::Device device = at::kCPU,
              std::optional<LoraConfig> lora = {},
              bool working_copies = true);

  /// Of whole sequences, which every rank that shares them is given alike; results and observations
  /// are those of this rank's tokens, see own_share(). With a `state` the ids continue its
  /// documents, and documents and positions are not read; rather call the function below.
  Hidden forward(const Tokens& tokens,
                 const PassOptions& options = {},
                 Observations* observations = nullptr,
                 DecodeState* state = nullptr) const;

  /// The next `ids_BS` of the documents in `state` (empty at first); updates the state.
  Hidden forward(const at::Tensor& ids_BS, DecodeState& state) const;

  /// This rank's tokens out of whole sequences [B, S, ...]; all, unless ranks divide them.
  at::Tensor own_share(const at::Tensor& whole) const { return context_.own_share(whole); }

  /// The MTP block's hidden state, normed, for the pass that gave `hidden`; requires
  /// config.num_nextn_predict_layers.
  at::Tensor mtp_forward(const Tokens& tokens,
                         const Hidden& hidden,
                         const PassOptions& options = {},
                         Observations* observations = nullptr) const;

  /// Wide logits [..., V] of normed hidden states [..., D].
  at::Tensor logits(const at::Tensor& hidden) const;
  /// Sum of the cross-entropies of normed hidden states, each times its weight (undefined = 1), see
  /// kernels/cross_entropy.h; the logits are never held whole.
  at::Tensor cross_entropy_sum(const at::Tensor& hidden_BSD,
                               const at::Tensor& targets_BS,
                               const at::Tensor& weights_BS = {}) const;
  /// The same of each token, [B, S], without gradient.
  at::Tensor cross_entropy_each(const at::Tensor& hidden_BSD, const at::Tensor& targets_BS) const;

  const ModelConfig& config() const { return config_; }
  Parameters& parameters() { return parameters_; }
  const Parameters& parameters() const { return parameters_; }
  at::Device device() const { return parameters_.device(); }
  bool has_mtp() const { return mtp_.has_value(); }

  /// The balancing biases of the learned routers, in the order of Observations::layers; undefined
  /// tensors for hash layers.
  std::vector<at::Tensor> routing_biases() const;

 private:
  std::shared_ptr<const Geometry> geometry_of(const Tokens& tokens, const DecodeState* state) const;
  at::Tensor embedded(const at::Tensor& ids_BS) const;
  at::Tensor streams_of(const at::Tensor& x_BSD) const;
  at::Tensor on_device(const at::Tensor& given) const {
    return given.to(device(), /*non_blocking=*/true);
  }

  ModelConfig config_;
  at::ScalarType compute_;
  ContextRanks context_;
  Parameters parameters_;
  at::Tensor embed_VD_, norm_D_;
  std::shared_ptr<const Lora> embed_adapter_;  // of the embedding transposed; null without one
  Linear head_;
  std::vector<Block> blocks_;
  std::unique_ptr<StreamHead> stream_head_;
  std::optional<Mtp> mtp_;
};

/// While it lives, a model's passes are those of the model without its adapters, bit for bit.
class WithoutAdapters {
 public:
  explicit WithoutAdapters(const Transformer& model);
  ~WithoutAdapters();
  WithoutAdapters(const WithoutAdapters&) = delete;
  WithoutAdapters& operator=(const WithoutAdapters&) = delete;

 private:
  std::shared_ptr<LoraUse> use_;
  bool before_;
};

/// While it lives, a model's passes round what config().qat_experts and qat_indexer name, or do
/// not; the backward passes of those that it saw must end before it does. Without one they do.
class UseQat {
 public:
  UseQat(const Transformer& model, bool on);
  ~UseQat();
  UseQat(const UseQat&) = delete;
  UseQat& operator=(const UseQat&) = delete;

 private:
  std::shared_ptr<QatUse> use_;
  bool before_;
};

}  // namespace braid
