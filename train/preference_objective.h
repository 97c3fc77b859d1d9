#pragma once
#include <vector>

#include "inference/preferences.h"
#include "train/language_objective.h"

namespace braid {

/// Preferring the chosen to the rejected answer more than a reference model does (DPO,
/// inference/preferences.h). Batches are of stores of pairs.
///
///   loss             mean of -log sigmoid(margin) over the step's pairs
///   reward_margin    mean margin
///   reward_accuracy  share of pairs with a margin above 1e-6 (PreferenceLoss::prefers_chosen)
///   chosen_reward, rejected_reward  mean rewards
///
/// The losses of routers and indexers are added as in LanguageObjective; an MTP block does not
/// learn.
class PreferenceObjective : public LanguageObjective {
 public:
  /// `reference`: scores of all documents by the reference model, as Batch::contexts counts them.
  /// `context`: the ranks that share sequences; null where none do.
  PreferenceObjective(const Transformer& model,
                      PreferenceOptions options,
                      std::vector<DocumentScore> reference,
                      Communicator* context = nullptr);

 protected:
  void declare_main(const LossWeights& weights, MicroBatchLoss& loss) const override;
  LossCounts main_counts(const Batch& batch) const override;
  void add_main(const Batch& batch,
                const Hidden& hidden,
                const LossCounts& counts,
                const PassOptions& options,
                Observations& observations,
                MicroBatchLoss& loss) const override;

 private:
  std::vector<DocumentScore> scores(const Batch& batch, const Hidden& hidden) const;

  PreferenceOptions preferences_;
  std::vector<DocumentScore> reference_;
  Communicator* context_;
};

}  // namespace braid
