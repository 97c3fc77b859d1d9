#pragma once
// What one optimizer step minimizes.
#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include <ATen/core/Tensor.h>

#include "model/transformer.h"

namespace braid {

/// Normalizers: counted over all micro-batches of one optimizer step before any of them runs, so
/// that neither their number nor packing changes the result.
struct LossCounts {
  int64_t targets = 0;                 ///< of the cross-entropy
  int64_t mtp_targets = 0;             ///< of the MTP loss
  int64_t tokens = 0;                  ///< padding excepted: of the balance loss
  std::map<int64_t, int64_t> indexed;  ///< by CSA ratio: tokens that see an entry, of the indexer's

  void add(const ModelConfig& config, const Tokens& tokens, const at::Tensor& targets_BS);
};

/// total = CE + mtp * MTP + balance * balance + indexer * KL. A loss with weight 0 is not
/// computed, except the CE and the MTP loss of a model with the block.
struct LossWeights {
  double mtp = 0, balance = 0, indexer = 0;
};

/// One micro-batch's share of the losses, or of that one rank's; shares add up to the step's.
struct Losses {
  at::Tensor total;          ///< [] wide; without a gradient when all that it depends on is frozen
  double cross_entropy = 0;  ///< nats per counted target
  double mtp = 0;            ///< the same for the token after next
  double balance = 0;        ///< 1 per learned router when the load is even
  double indexer_kl = 0;     ///< nats per token that sees an entry, summed over CSA layers
  /// Attention mass that the indexers' top-k would catch [0] among tokens with more entries than
  /// that [1], over all CSA layers; zeros unless attention is dense.
  std::array<double, 2> indexer_recall = {0, 0};
  std::vector<at::Tensor> load_E;  ///< tokens per expert, decoder layers, then the MTP block

  /// Adds another micro-batch's share; not its `total`, whose graph is of no more use.
  void add(const Losses& other);
};

/// Forward pass and losses of one micro-batch, of whole sequences. options.balance_loss and
/// options.indexer_loss follow from the weights.
Losses losses_of(const Transformer& model,
                 const Tokens& tokens,
                 const at::Tensor& targets_BS,
                 const LossCounts& counts,
                 const LossWeights& weights,
                 PassOptions options);

/// Counted targets.
int64_t counted_targets(const at::Tensor& targets_BS);

}  // namespace braid
