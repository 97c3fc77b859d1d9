#pragma once
#include "model/transformer.h"
#include "train/objective.h"

namespace braid {

/// Names of terms, which are keys of metrics.jsonl.
inline constexpr const char* kLossName = "loss";
inline constexpr const char* kMtpLossName = "mtp_loss";

/// Predicting the next token:
/// loss = cross-entropy + mtp * MTP loss + balance * balance loss + indexer * indexer KL.
///
///   loss        nats per counted target; where targets have weights, their weighted mean
///   mtp_loss    the same for the token after next, of a model with an MTP block
///   balance_loss  1 per learned router when the load is even; with a weight
///   indexer_kl  nats per token that sees a compressed entry, summed over CSA layers; with a weight
///
/// Beside it indexer_recall, with dense attention: the attention mass that the indexers' top-k
/// would catch, per token with more entries than that, over all CSA layers.
class LanguageObjective : public Objective {
 public:
  explicit LanguageObjective(const Transformer& model) : model_(model) {}

  LossCounts counts(const Batch& batch) const final;
  /// options.balance_loss and options.indexer_loss of the regime follow from its weights.
  MicroBatchLoss loss(const Batch& batch,
                      const LossCounts& counts,
                      const Regime& regime) const final;

 protected:
  /// The first term, what it counts, and the MTP loss beside it. A derived objective that learns
  /// from something else than the next token replaces these three.
  virtual void declare_main(const LossWeights& weights, MicroBatchLoss& loss) const;
  virtual LossCounts main_counts(const Batch& batch) const;
  virtual void add_main(const Batch& batch,
                        const Hidden& hidden,
                        const LossCounts& counts,
                        const PassOptions& options,
                        Observations& observations,
                        MicroBatchLoss& loss) const;

  /// What a derived objective adds out of the same forward pass: declares its terms and adds them.
  virtual void add_terms(const Batch& /*batch*/,
                         const Hidden& /*hidden*/,
                         const LossCounts& /*counts*/,
                         MicroBatchLoss& /*loss*/) const {}

  const Transformer& model_;
};

}  // namespace braid
