#pragma once
// What one pass through the model is given and may report.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

namespace braid {

struct DecodeState;
struct Geometry;
class Observer;

/// The tokens of one pass: whole sequences, also where several ranks share them, and on the host,
/// whichever device the model is on. All int64 [B, S].
struct Tokens {
  at::Tensor ids_BS;
  at::Tensor documents_BS;  ///< document of its row; contiguous; -1 = padding
  at::Tensor positions_BS;  ///< position in the document, 0-based
};

/// Rows that are one document each.
Tokens whole_documents(const at::Tensor& ids_BS);

/// Experts that were chosen before the pass, for anticipatory routing: int64 [T, K] of each layer
/// by its index in Observations::layers, T this rank's tokens; undefined where a layer chooses
/// itself.
using GivenExperts = std::vector<at::Tensor>;

struct PassOptions {
  bool dense_attention = false;  ///< CSA layers attend to all visible entries, not to the indexer's
  bool balance_loss = false;     ///< of the learned routers
  bool indexer_loss = false;     ///< of the CSA layers' indexers, over the entries attended to
  /// Sublayers (an attention or a MoE) whose inner results are computed again in the backward pass
  /// instead of being kept; 0 = all are kept.
  int64_t recompute_sublayers = 0;
  bool keep_streams = false;  ///< see Observations::streams_BSMD
  bool keep_experts = false;  ///< see LayerObservation::experts_TK
  /// Learned routers take these experts; weights come from the scores all the same.
  std::shared_ptr<const GivenExperts> given_experts = {};
  /// Of what adapters leave out of their inputs (model/lora.h), in this pass and whatever belongs
  /// to it: its MTP block, and what is computed again; none: nothing is left out.
  std::optional<uint64_t> dropout_key = {};
  Observer* observer = nullptr;  ///< is shown inner values of the layers (model/observer.h)
};

/// What one layer reports. Sums over the pass's tokens, padding not counted; undefined where the
/// layer has no such part or the options did not ask.
struct LayerObservation {
  at::Tensor load_E;              ///< tokens per expert, float64
  at::Tensor experts_TK;          ///< int64, of a learned router, padding included; keep_experts
  at::Tensor balance_sum;         ///< [] with gradient: see balance_loss_sum()
  at::Tensor indexer_kl_sum;      ///< [] with gradient: see indexer_kl()
  at::Tensor indexer_recall_sum;  ///< [2]: see indexer_kl(); dense attention only
};

struct Observations {
  std::vector<LayerObservation> layers;  ///< decoder layers, then the MTP block
  std::vector<at::Tensor> streams_BSMD;  ///< after each of these layers, with keep_streams
  std::function<void(int64_t layer)> on_layer = {};  ///< called after each of them, if set

  /// layers[layer], which is added if it is not there yet.
  LayerObservation& of_layer(int64_t layer);
};

/// What every layer of one pass is given beside its input. Tensors are on the model's device.
struct Pass {
  at::Tensor ids_BS;  ///< this rank's tokens
  std::shared_ptr<const Geometry> geometry;
  PassOptions options;
  Observations* observations = nullptr;  ///< null: nobody asks
  DecodeState* state = nullptr;          ///< of a generation, else null

  /// See GivenExperts; undefined where this layer's router chooses.
  at::Tensor given_experts(int64_t layer) const {
    return options.given_experts == nullptr
               ? at::Tensor()
               : options.given_experts->at(static_cast<std::size_t>(layer));
  }
};

}  // namespace braid
