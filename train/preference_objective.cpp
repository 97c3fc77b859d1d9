#include "train/preference_objective.h"

#include <utility>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/error.h"
#include "core/ignored_target.h"

namespace braid {
namespace {

constexpr const char* kPreference = "loss";
constexpr const char* kMargin = "reward_margin";
constexpr const char* kAccuracy = "reward_accuracy";
constexpr const char* kChosen = "chosen_reward";
constexpr const char* kRejected = "rejected_reward";
constexpr const char* kPairs = "pairs";

// The first of the batch's contexts, counted row by row, that is in each row.
std::vector<int64_t> first_contexts(const Batch& batch) {
  std::vector<int64_t> result;
  int64_t first = 0;
  for (const auto& row : batch.contexts) {
    result.push_back(first);
    first += static_cast<int64_t>(row.size());
  }
  return result;
}

int64_t num_contexts(const Batch& batch) {
  int64_t contexts = 0;
  for (const auto& row : batch.contexts) {
    contexts += static_cast<int64_t>(row.size());
  }
  return contexts;
}

// The context of each token, counted row by row, [B, S]; 0 in padding, which has no targets.
at::Tensor context_of_tokens(const Batch& batch) {
  const auto first_B = at::tensor(first_contexts(batch), at::kLong);
  return batch.documents_BS.clamp_min(0) + first_B.unsqueeze(1);
}

}  // namespace

PreferenceObjective::PreferenceObjective(const Transformer& model,
                                         PreferenceOptions options,
                                         std::vector<DocumentScore> reference,
                                         Communicator* context)
    : LanguageObjective(model),
      preferences_(options),
      reference_(std::move(reference)),
      context_(context) {}

void PreferenceObjective::declare_main(const LossWeights& /*weights*/, MicroBatchLoss& loss) const {
  loss.declare(LossTerm{.name = kPreference, .label = "loss"});
  for (const auto* ratio : {kMargin, kAccuracy, kChosen, kRejected}) {
    loss.declare(LossRatio{.name = ratio});
  }
}

LossCounts PreferenceObjective::main_counts(const Batch& batch) const {
  return {{kPairs, static_cast<double>(num_contexts(batch)) / 2}};
}

// Of each context of the batch, over the tokens of all ranks that share its sequences.
std::vector<DocumentScore> PreferenceObjective::scores(const Batch& batch,
                                                       const Hidden& hidden) const {
  const at::NoGradGuard no_grad;
  const int64_t C = num_contexts(batch);
  const auto context_T = model_.own_share(context_of_tokens(batch)).flatten();
  const auto targets_BS = model_.own_share(batch.targets_BS);
  const auto nats_T =
      model_.cross_entropy_each(hidden.final_BSD, targets_BS).to(at::kCPU, at::kDouble).flatten();
  const auto is_target_T = (targets_BS.flatten() != kIgnoredTarget).to(at::kDouble);
  const auto sums_2C = at::zeros({2, C}, at::kDouble)
                           .index_add(1, context_T, at::stack({nats_T.neg(), is_target_T}))
                           .contiguous();
  const double* sums = sums_2C.const_data_ptr<double>();
  std::vector<double> own(sums, sums + sums_2C.numel());
  const auto all = context_ == nullptr ? std::vector<std::vector<double>>{own}
                                       : context_->all_gather(own, "scores of answers");
  std::vector<DocumentScore> result(static_cast<std::size_t>(C));
  for (const auto& of_rank : all) {
    for (std::size_t c = 0; c < result.size(); ++c) {
      result[c].log_probability += of_rank[c];
      result[c].targets += static_cast<int64_t>(of_rank[result.size() + c]);
    }
  }
  return result;
}

// The gradient of the loss by the parameters is that of the tokens' cross-entropies, each times
// - d loss / d log p of its answer: so the answers are scored first, without gradient, and the
// cross-entropy with these weights, which never holds the logits, gives the gradient.
void PreferenceObjective::add_main(const Batch& batch,
                                   const Hidden& hidden,
                                   const LossCounts& counts,
                                   const PassOptions& /*options*/,
                                   Observations& /*observations*/,
                                   MicroBatchLoss& loss) const {
  const auto scored = scores(batch, hidden);
  std::vector<double> weights(scored.size());
  PreferenceLoss sum;
  double preferred = 0;
  std::size_t context = 0;
  for (const auto& row : batch.contexts) {
    require(row.size() % 2 == 0,
            "[preferences] a row holds ",
            row.size(),
            " answers; expected pairs (data.format: preference)");
    for (std::size_t i = 0; i < row.size(); i += 2, context += 2) {
      const auto reference_of = [&](const Chunk& answer) {
        return reference_.at(static_cast<std::size_t>(answer.document));
      };
      const auto pair = preference_loss(preferences_,
                                        scored[context],
                                        scored[context + 1],
                                        reference_of(row[i]),
                                        reference_of(row[i + 1]));
      weights[context] = -pair.by_chosen;
      weights[context + 1] = -pair.by_rejected;
      sum.loss += pair.loss;
      sum.margin += pair.margin;
      sum.chosen_reward += pair.chosen_reward;
      sum.rejected_reward += pair.rejected_reward;
      preferred += pair.prefers_chosen();
    }
  }
  const auto weights_BS = at::tensor(weights, at::kDouble)
                              .index_select(0, context_of_tokens(batch).flatten())
                              .view_as(batch.ids_BS);
  const auto surrogate = model_.cross_entropy_sum(
      hidden.final_BSD, model_.own_share(batch.targets_BS), model_.own_share(weights_BS));
  // Of the ranks that share the sequences one reports what all have found.
  const bool reports = context_ == nullptr || context_->rank() == 0;
  const double value = reports ? sum.loss : 0;
  loss.add(kPreference, surrogate - surrogate.detach() + value, counts.at(kPairs));
  if (reports) {
    const auto pairs = static_cast<double>(scored.size()) / 2;
    const auto report = [&](const char* name, double total) {
      loss.add_to_ratio(name, at::tensor({total, pairs}, at::kDouble));
    };
    report(kMargin, sum.margin);
    report(kAccuracy, preferred);
    report(kChosen, sum.chosen_reward);
    report(kRejected, sum.rejected_reward);
  }
}

}  // namespace braid
