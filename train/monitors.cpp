#include "train/monitors.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/profile.h"
#include "train/language_objective.h"

namespace braid {
namespace {

// H / ln E of the shares of the load: 1 where it is even, 0 where one expert has all of it.
std::optional<double> entropy(const at::Tensor& load_E) {
  const double all = load_E.sum().item<double>();
  if (all == 0 || load_E.numel() < 2) {
    return std::nullopt;
  }
  const auto share_E = load_E / all;
  return -at::xlogy(share_E, share_E).sum().item<double>() /
         std::log(static_cast<double>(load_E.numel()));
}

}  // namespace

std::string layer_key(std::size_t layer, const ModelConfig& config) {
  return layer < static_cast<std::size_t>(config.num_hidden_layers) ? text(layer) : "mtp";
}

Monitors::Monitors(const RunConfig& config, const ProcessGrid& grid, TrainingState& state)
    : config_(config.logging), grid_(grid), state_(state) {
  const auto& which = config_.monitors;
  if (PassMonitor::is_needed(which)) {
    pass_.emplace(config.model, which, config_.monitor_tokens);
  }
  if (which.contains(Monitor::kUpdates) || which.contains(Monitor::kWeights)) {
    updates_.emplace(*state_.optimizer, grid.place, config.optimizer.muon);
  }
  if (which.contains(Monitor::kExperts)) {
    state_.idle_experts.emplace(config.model);
  }
}

void Monitors::begin_step(int64_t step) {
  step_ = step;
  measures_ = config_.measures(step);
  has_update_ = false;
  tally_ = {};
}

Observer* Monitors::observer() {
  return measures_ && pass_ ? &*pass_ : nullptr;
}

void Monitors::before_update(TrainedParts parts, double learning_rate) {
  has_update_ = measures_ && config_.monitors.contains(Monitor::kUpdates);
  if (has_update_) {
    updates_->before_step(step_ / config_.monitor_every_steps, parts, learning_rate);
  }
}

void Monitors::after_update(const std::vector<at::Tensor>& load_E) {
  if (has_update_) {
    updates_->after_step(tally_);
  }
  if (state_.idle_experts) {
    state_.idle_experts->received(load_E);
  }
}

std::vector<std::pair<std::string, double>> Monitors::end_step(const Losses& losses) {
  const ProfileScope scope("monitors", ProfileKind::kStep);
  std::vector<std::pair<std::string, double>> values;
  if (measures_) {
    const at::NoGradGuard no_grad;
    if (pass_) {
      pass_->finish(tally_);
    }
    if (config_.monitors.contains(Monitor::kWeights)) {
      updates_->add_weights(tally_);
    }
    tally_.merge(*grid_.world, "monitors");
    if (config_.monitors.contains(Monitor::kExperts)) {
      add_expert_loads(losses.load_E, tally_);  // sums over ranks already
    }
    values = tally_.values();
  }
  if (config_.monitors.contains(Monitor::kMtp)) {
    const auto& terms = losses.terms;
    const auto mtp = std::ranges::find(terms, kMtpLossName, &LossTerm::name);
    if (mtp != terms.end() && losses.loss() > 0) {
      values.emplace_back("mtp_ratio", mtp->value / losses.loss());
    }
  }
  return values;
}

void Monitors::add_expert_loads(const std::vector<at::Tensor>& load_E, Tally& tally) const {
  const auto biases = state_.model->routing_biases();
  const auto& model = state_.model->config();
  for (std::size_t i = 0; i < load_E.size(); ++i) {
    const auto layer = layer_key(i, model);
    if (const auto evenness = entropy(load_E[i])) {
      tally.raise("expert_entropy." + layer, *evenness);
    }
    if (biases[i].defined()) {  // the others' loads follow the text: nothing evens them out
      tally.raise("expert_dead." + layer,
                  static_cast<double>(state_.idle_experts->dead(i, config_.dead_after_steps)));
      tally.raise("expert_bias_range." + layer, (biases[i].max() - biases[i].min()).item<double>());
    }
  }
}

}  // namespace braid
