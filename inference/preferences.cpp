#include "inference/preferences.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace braid {

PreferenceLoss preference_loss(const PreferenceOptions& options,
                               const DocumentScore& chosen,
                               const DocumentScore& rejected,
                               const DocumentScore& chosen_reference,
                               const DocumentScore& rejected_reference) {
  const auto scale_of = [&](const DocumentScore& answer) {
    return options.length_normalized ? options.beta / static_cast<double>(answer.targets)
                                     : options.beta;
  };
  PreferenceLoss result;
  result.chosen_reward =
      scale_of(chosen) * (chosen.log_probability - chosen_reference.log_probability);
  result.rejected_reward =
      scale_of(rejected) * (rejected.log_probability - rejected_reference.log_probability);
  result.margin = result.chosen_reward - result.rejected_reward;
  // -log sigmoid(m) = log(1 + e^-m), whose derivative is -sigmoid(-m); without overflow.
  const double m = result.margin, small = std::exp(-std::abs(m));
  result.loss = std::max(-m, 0.0) + std::log1p(small);
  const double by_margin = -(m >= 0 ? small : 1) / (1 + small);
  result.by_chosen = by_margin * scale_of(chosen);
  result.by_rejected = -by_margin * scale_of(rejected);
  return result;
}

PreferenceEvaluation preference_means(const PreferenceOptions& options,
                                      const std::vector<DocumentScore>& scores,
                                      const std::vector<DocumentScore>& reference) {
  require(scores.size() == reference.size() && scores.size() % 2 == 0 && !scores.empty(),
          "[preferences] ",
          scores.size(),
          " scores and ",
          reference.size(),
          " of the reference; expected two of each pair");
  PreferenceEvaluation result;
  for (std::size_t i = 0; i < scores.size(); i += 2) {
    const auto pair =
        preference_loss(options, scores[i], scores[i + 1], reference[i], reference[i + 1]);
    result.loss += pair.loss;
    result.margin += pair.margin;
    result.chosen_reward += pair.chosen_reward;
    result.rejected_reward += pair.rejected_reward;
    result.accuracy += pair.prefers_chosen();
    ++result.pairs;
  }
  const auto pairs = static_cast<double>(result.pairs);
  for (double* mean : {&result.loss,
                       &result.margin,
                       &result.chosen_reward,
                       &result.rejected_reward,
                       &result.accuracy}) {
    *mean /= pairs;
  }
  return result;
}

}  // namespace braid
