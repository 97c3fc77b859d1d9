#pragma once
// Preferences between two answers to one prompt: how much more a model prefers the chosen one than
// a reference model does (DPO: Rafailov et al. 2023, arXiv:2305.18290).
#include <vector>

#include "inference/token_losses.h"

namespace braid {

struct PreferenceOptions {
  double beta = 0.1;  ///< how strongly the model is held to the reference
  /// Log-probabilities are divided by the answer's number of targets (Lambert et al. 2024,
  /// arXiv:2411.15124, section 5.1); beta is then larger, about 5.
  bool length_normalized = false;
};

/// One pair: with reward = beta (log p - log p_reference) of an answer and margin = the chosen
/// answer's reward less the rejected one's, loss = -log sigmoid(margin).
struct PreferenceLoss {
  double loss = 0, margin = 0;
  double chosen_reward = 0, rejected_reward = 0;
  double by_chosen = 0, by_rejected = 0;  ///< d loss / d log p of either answer

  /// Whether the chosen answer has gained on the other one. A model that is its own reference has
  /// not, though the two were scored in other batches: their rounding is far below this margin.
  bool prefers_chosen() const { return margin > 1e-6; }
};
PreferenceLoss preference_loss(const PreferenceOptions& options,
                               const DocumentScore& chosen,
                               const DocumentScore& rejected,
                               const DocumentScore& chosen_reference,
                               const DocumentScore& rejected_reference);

/// Means over the pairs of a store.
struct PreferenceEvaluation {
  double loss = 0, margin = 0, chosen_reward = 0, rejected_reward = 0;
  double accuracy = 0;  ///< share of pairs that prefers_chosen()
  int64_t pairs = 0;
};

/// Of scores of a store of pairs (TokenStore::documents_per_sample) by a model and by its
/// reference.
PreferenceEvaluation preference_means(const PreferenceOptions& options,
                                      const std::vector<DocumentScore>& scores,
                                      const std::vector<DocumentScore>& reference);

}  // namespace braid
