#include "model/objective.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "core/ignored_target.h"
#include "core/profile.h"

namespace braid {
namespace {

at::Tensor mean(const at::Tensor& sum, int64_t count) {
  return sum / static_cast<double>(std::max<int64_t>(1, count));
}

}  // namespace

int64_t counted_targets(const at::Tensor& targets_BS) {
  return (targets_BS != kIgnoredTarget).sum().item<int64_t>();
}

void LossCounts::add(const ModelConfig& config, const Tokens& given, const at::Tensor& targets_BS) {
  targets += counted_targets(targets_BS);
  if (config.num_nextn_predict_layers > 0) {
    mtp_targets += counted_targets(braid::mtp_targets(targets_BS, given.documents_BS));
  }
  const auto real = given.documents_BS >= 0;
  tokens += real.sum().item<int64_t>();
  std::map<int64_t, int64_t> found;
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const auto layer = config.layer(i);
    if (layer.attention == AttentionKind::kCsa && !found.contains(layer.ratio)) {
      const auto sees_an_entry = real.logical_and(given.positions_BS + 1 >= layer.ratio);
      found[layer.ratio] = sees_an_entry.sum().item<int64_t>();
    }
  }
  for (const auto& [ratio, count] : found) {
    indexed[ratio] += count;
  }
}

void Losses::add(const Losses& other) {
  cross_entropy += other.cross_entropy;
  mtp += other.mtp;
  balance += other.balance;
  indexer_kl += other.indexer_kl;
  for (int i : {0, 1}) {
    indexer_recall[i] += other.indexer_recall[i];
  }
  if (load_E.empty()) {
    load_E = other.load_E;
    return;
  }
  for (std::size_t i = 0; i < load_E.size(); ++i) {
    load_E[i] = load_E[i] + other.load_E[i];
  }
}

Losses losses_of(const Transformer& model,
                 const Tokens& tokens,
                 const at::Tensor& targets_BS,
                 const LossCounts& counts,
                 const LossWeights& weights,
                 PassOptions options) {
  options.balance_loss = weights.balance > 0;
  options.indexer_loss = weights.indexer > 0;
  Observations observations;
  Losses losses;
  const auto hidden = model.forward(tokens, options, &observations);
  const auto cross_entropy =
      mean(model.cross_entropy_sum(hidden.final_BSD, model.own_share(targets_BS)), counts.targets);
  losses.total = cross_entropy;
  losses.cross_entropy = cross_entropy.item<double>();
  if (model.has_mtp()) {
    const ProfileScope scope("MTP", ProfileKind::kWhole);
    const auto hidden_BSD = model.mtp_forward(tokens, hidden, options, &observations);
    const auto mtp_targets_BS = mtp_targets(targets_BS, tokens.documents_BS);
    const auto mtp = mean(model.cross_entropy_sum(hidden_BSD, model.own_share(mtp_targets_BS)),
                          counts.mtp_targets);
    losses.total = losses.total + weights.mtp * mtp;
    losses.mtp = mtp.item<double>();
  }
  for (std::size_t i = 0; i < observations.layers.size(); ++i) {
    const auto& layer = observations.layers[i];
    losses.load_E.push_back(layer.load_E);
    if (layer.balance_sum.defined()) {
      const auto balance = mean(layer.balance_sum, counts.tokens);
      losses.total = losses.total + weights.balance * balance;
      losses.balance += balance.item<double>();
    }
    if (layer.indexer_kl_sum.defined()) {
      const int64_t ratio = model.config().layer(static_cast<int64_t>(i)).ratio;
      const auto kl = mean(layer.indexer_kl_sum, counts.indexed.at(ratio));
      losses.total = losses.total + weights.indexer * kl;
      losses.indexer_kl += kl.item<double>();
    }
    if (layer.indexer_recall_sum.defined()) {
      for (int k : {0, 1}) {
        losses.indexer_recall[k] += layer.indexer_recall_sum[k].item<double>();
      }
    }
  }
  return losses;
}

}  // namespace braid
