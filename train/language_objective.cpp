#include "train/language_objective.h"

#include <ATen/ATen.h>

#include "core/profile.h"
#include "model/targets.h"
#include "run/tokens_of.h"

namespace braid {
namespace {

constexpr const char* kBalance = "balance_loss";
constexpr const char* kIndexer = "indexer_kl";
constexpr const char* kRecall = "indexer_recall";

// Tokens that see a compressed entry of a CSA layer of this ratio.
std::string indexed_tokens(int64_t ratio) {
  return text("indexed_tokens.", ratio);
}

// Those of them that see two or more.
std::string choosing_tokens(int64_t ratio) {
  return text("choosing_tokens.", ratio);
}

// What a weighted mean over these targets is divided by.
double total_weight(const at::Tensor& targets_BS, const at::Tensor& weights_BS) {
  return weights_BS.defined() ? weights_BS.sum(at::kDouble).item<double>()
                              : static_cast<double>(counted_targets(targets_BS));
}

at::Tensor mtp_weights_of(const Batch& batch) {
  return batch.weights_BS.defined() ? mtp_weights(batch.weights_BS, batch.documents_BS)
                                    : at::Tensor();
}

void declare_layers(const LossWeights& weights, MicroBatchLoss& loss) {
  if (weights.balance > 0) {
    loss.declare(LossTerm{.name = kBalance, .label = "balance loss", .weight = weights.balance});
  }
  if (weights.indexer > 0) {
    loss.declare(LossTerm{.name = kIndexer,
                          .label = "indexer loss",
                          .weight = weights.indexer,
                          .progress_label = "indexer KL"});
  }
  loss.declare(LossRatio{.name = kRecall});
}

}  // namespace

void LanguageObjective::declare_main(const LossWeights& weights, MicroBatchLoss& loss) const {
  loss.declare(LossTerm{.name = kLossName, .label = "loss"});
  if (model_.has_mtp()) {
    loss.declare(LossTerm{.name = kMtpLossName, .label = "MTP loss", .weight = weights.mtp});
  }
}

LossCounts LanguageObjective::main_counts(const Batch& batch) const {
  LossCounts counts = {{"target_weight", total_weight(batch.targets_BS, batch.weights_BS)}};
  if (model_.has_mtp()) {
    counts["mtp_target_weight"] =
        total_weight(mtp_targets(batch.targets_BS, batch.documents_BS), mtp_weights_of(batch));
  }
  return counts;
}

void LanguageObjective::add_main(const Batch& batch,
                                 const Hidden& hidden,
                                 const LossCounts& counts,
                                 const PassOptions& options,
                                 Observations& observations,
                                 MicroBatchLoss& loss) const {
  const auto own_share_of = [&](const at::Tensor& weights_BS) {
    return weights_BS.defined() ? model_.own_share(weights_BS) : at::Tensor();
  };
  loss.add(
      kLossName,
      model_.cross_entropy_sum(
          hidden.final_BSD, model_.own_share(batch.targets_BS), own_share_of(batch.weights_BS)),
      counts.at("target_weight"));
  if (!model_.has_mtp()) {
    return;
  }
  const ProfileScope scope("MTP", ProfileKind::kWhole);
  const auto hidden_BSD = model_.mtp_forward(tokens_of(batch), hidden, options, &observations);
  const auto targets_BS = mtp_targets(batch.targets_BS, batch.documents_BS);
  loss.add(kMtpLossName,
           model_.cross_entropy_sum(
               hidden_BSD, model_.own_share(targets_BS), own_share_of(mtp_weights_of(batch))),
           counts.at("mtp_target_weight"));
}

LossCounts LanguageObjective::counts(const Batch& batch) const {
  const auto& config = model_.config();
  const auto is_token_BS = batch.documents_BS >= 0;  // no padding
  LossCounts counts = main_counts(batch);
  counts["targets"] = static_cast<double>(counted_targets(batch.targets_BS));
  counts["tokens"] = is_token_BS.sum().item<double>();
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const auto layer = config.layer(i);
    if (layer.attention == AttentionKind::kCsa && !counts.contains(indexed_tokens(layer.ratio))) {
      const auto that_see = [&](int64_t entries) {
        return is_token_BS.logical_and(batch.positions_BS + 1 >= entries * layer.ratio)
            .sum()
            .item<int64_t>();
      };
      counts[indexed_tokens(layer.ratio)] = that_see(1);
      counts[choosing_tokens(layer.ratio)] = that_see(2);
    }
  }
  return counts;
}

MicroBatchLoss LanguageObjective::loss(const Batch& batch,
                                       const LossCounts& counts,
                                       const Regime& regime) const {
  const auto tokens = tokens_of(batch);
  auto options = regime.options;
  options.balance_loss = regime.weights.balance > 0;
  options.indexer_loss = regime.weights.indexer > 0;
  MicroBatchLoss loss;
  declare_main(regime.weights, loss);
  declare_layers(regime.weights, loss);
  loss.set_tokens(counts.at("targets"));
  Observations observations;
  const auto hidden = model_.forward(tokens, options, &observations);
  add_main(batch, hidden, counts, options, observations, loss);
  for (std::size_t i = 0; i < observations.layers.size(); ++i) {
    const auto& layer = observations.layers[i];
    loss.add_load(layer.load_E);
    if (layer.balance_sum.defined()) {
      loss.add(kBalance, layer.balance_sum, counts.at("tokens"));
    }
    if (layer.indexer_kl_sum.defined()) {
      const int64_t ratio = model_.config().layer(static_cast<int64_t>(i)).ratio;
      // Over one entry both distributions are 1: where no query of the step sees more, the loss is
      // constant, and its gradient would be nothing but rounding.
      const bool of_one = !options.dense_attention && model_.config().index_topk == 1;
      const bool is_constant = of_one || counts.at(choosing_tokens(ratio)) == 0;
      loss.add(kIndexer,
               is_constant ? layer.indexer_kl_sum.detach() : layer.indexer_kl_sum,
               counts.at(indexed_tokens(ratio)));
    }
    if (layer.indexer_recall_sum.defined()) {
      loss.add_to_ratio(kRecall, layer.indexer_recall_sum);
    }
  }
  const auto layers = static_cast<int64_t>(observations.layers.size());
  if (model_.has_mtp() && layers == model_.config().num_hidden_layers) {
    // The MTP block did not run, so its experts had no tokens.
    loss.add_load(at::zeros({model_.config().n_routed_experts}, at::kDouble));
  }
  add_terms(batch, hidden, counts, loss);
  return loss;
}

}  // namespace braid
