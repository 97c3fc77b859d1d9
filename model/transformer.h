#pragma once
#include <memory>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "model/block.h"
#include "model/mtp.h"

namespace braid {

/// The type of activations; parameters are float64 in a float64 model and float32 otherwise.
at::ScalarType parameter_type(at::ScalarType compute);

/// The tokens of one pass.  All int64 [B, S].
struct Tokens {
  at::Tensor ids_BS;
  at::Tensor documents_BS;  ///< document of its row; contiguous; -1 = padding
  at::Tensor positions_BS;  ///< position in the document, 0-based
};

/// Rows that are one document each.
Tokens whole_documents(const at::Tensor& ids_BS);

/// What a generation carries from token to token.
struct DecodeState {
  int64_t past = 0;  ///< tokens consumed
  std::vector<AttentionState> layers;
};

/// What a pass may record on request.
struct Observations {
  std::vector<at::Tensor> streams_BSMD;  ///< after each decoder layer
  std::vector<Routing> routing;          ///< of each decoder layer, then of the MTP block
};

struct Hidden {
  at::Tensor final_BSD;     ///< normed, what the head reads
  at::Tensor streams_BSMD;  ///< after the last decoder layer, what the MTP block reads
};

/// A model of the DeepSeek-V4 design (architecture.md 2.0).
class Transformer {
 public:
  /// Initial values are a pure function of (seed, release name, element).
  Transformer(const ModelConfig& config, at::ScalarType compute, uint64_t seed);

  Hidden forward(const Tokens& tokens, Observations* observations = nullptr) const;

  /// The next `ids_BS` of the documents in `state` (empty at first); updates the state.
  Hidden forward(const at::Tensor& ids_BS, DecodeState& state) const;

  /// The MTP block's hidden state for the pass that gave `hidden`; requires
  /// config.num_nextn_predict_layers.
  at::Tensor mtp_forward(const Tokens& tokens,
                         const Hidden& hidden,
                         Observations* observations = nullptr) const;

  /// Wide logits [..., V] of normed hidden states [..., D].
  at::Tensor logits(const at::Tensor& hidden) const;

  const ModelConfig& config() const { return config_; }
  Parameters& parameters() { return parameters_; }
  const Parameters& parameters() const { return parameters_; }
  bool has_mtp() const { return mtp_.has_value(); }

  /// The balancing biases of the learned routers, in the order of Observations::routing; undefined
  /// tensors for hash layers.
  std::vector<at::Tensor> routing_biases() const;

 private:
  at::Tensor embedded(const at::Tensor& ids_BS) const;
  Hidden run(const at::Tensor& ids_BS,
             const Geometry& geometry,
             DecodeState* state,
             Observations* observations) const;

  ModelConfig config_;
  at::ScalarType compute_;
  Parameters parameters_;
  at::Tensor embed_VD_, head_VD_, norm_D_;
  std::vector<Block> layers_;
  std::unique_ptr<StreamHead> stream_head_;
  std::optional<Mtp> mtp_;
};

}  // namespace braid
