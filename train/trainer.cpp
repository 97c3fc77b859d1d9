#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include <ATen/ATen.h>

#include "optim/clip.h"
#include "train/memory.h"
#include "train/parts.h"

namespace braid {

TrainingEnd Trainer::run(const std::function<bool()>& interrupted) {
  while (step_ < config_.train.max_steps && !interrupted()) {
    const auto start = std::chrono::steady_clock::now();
    const auto result = train_step();
    report(result, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    if (config_.stability.spike_action != SpikeAction::kOff && result.not_finite.empty() &&
        spikes_.spiked(result.losses.cross_entropy) && rolled_back(result)) {
      continue;
    }

    const auto due = [this](int64_t every) { return every > 0 && step_ % every == 0; };
    if (data_.validation &&
        (due(config_.train.validate_every_steps) || step_ == config_.train.max_steps)) {
      validate();
    }
    if (due(config_.checkpoint.every_steps) && saved_step_ != step_) {
      save();
    }
  }
  if (saved_step_ != step_) {
    save();
  }
  return step_ < config_.train.max_steps ? TrainingEnd::kInterrupted : TrainingEnd::kFinished;
}

// One optimiser step, start to end.
Trainer::StepResult Trainer::train_step() {
  StepResult result;
  const auto regime = regime_at(config_, optimizer_->steps().all);
  freeze_all_but(regime.part);

  // 1. The step's micro-batches, and what their losses are divided by.
  std::vector<Batch> batches;
  for (int64_t rows = 0; rows < regime.sequences; rows += batches.back().ids_BS.size(0)) {
    batches.push_back(loader_->next(
        {std::min(config_.train.micro_batch_size, regime.sequences - rows), regime.seq_len}));
    const auto& batch = batches.back();
    result.counts.add(
        config_.model, {batch.ids_BS, batch.documents_BS, batch.positions_BS}, batch.targets_BS);
  }

  result.shape = {batches.front().ids_BS.size(0), batches.front().ids_BS.size(1)};
  result.learns_indexer = regime.weights.indexer > 0;

  // 2. Losses and gradients.
  forward_backward(batches, regime, result);
  measure_gradients(regime.part, result);

  // 3. Clip and update, unless a loss or gradient is not finite: then all stays as it was.
  result.learning_rate = regime.learning_rate;
  if (result.not_finite.empty()) {
    clip_gradients(gradients(regime.part), result.gradient_norm, config_.optimizer.max_grad_norm);
    const int64_t before = TensorMemory::now();
    TensorMemory::take_peak();
    optimizer_->step(regime.learning_rate, regime.part);
    result.update_bytes = TensorMemory::take_peak() - before;
    if (!regime.warms_up_indexer()) {
      update_routing_biases(result.losses.load_E);
    }
  }
  ++step_;
  tokens_ += result.counts.targets;
  return result;
}

void Trainer::forward_backward(const std::vector<Batch>& batches,
                               const Regime& regime,
                               StepResult& result) {
  for (const auto& parameter : model_->parameters().all()) {
    parameter.value.mutable_grad().reset();
  }
  TensorMemory::take_peak();
  const int64_t before = TensorMemory::now();
  for (const auto& batch : batches) {
    const auto losses = losses_of(*model_,
                                  {batch.ids_BS, batch.documents_BS, batch.positions_BS},
                                  batch.targets_BS,
                                  result.counts,
                                  regime.weights,
                                  regime.options);
    if (losses.total.requires_grad()) {
      losses.total.backward();
    }
    result.losses.add(losses);
  }
  result.activation_bytes = TensorMemory::take_peak() - before;
}

std::vector<at::Tensor> Trainer::gradients(TrainedPart part) const {
  std::vector<at::Tensor> result;
  for (const auto& grouped : optimizer_->parameters()) {
    if (grouped.learns_in(part)) {
      result.push_back(grouped.parameter.value.grad());
    }
  }
  return result;
}

// Norms of the whole and of each part, and where something is not finite.
void Trainer::measure_gradients(TrainedPart part, StepResult& result) {
  std::map<std::string_view, double> squares;
  std::map<std::string_view, std::string> bad;  // part -> its first parameter that is not finite
  double total = 0;
  for (const auto& grouped : optimizer_->parameters()) {
    if (!grouped.learns_in(part)) {
      continue;
    }
    const auto& [name, value] = grouped.parameter;
    const double norm = gradient_norm({value.grad()});
    total += norm * norm;
    squares[part_of(name)] += norm * norm;
    if (!std::isfinite(norm)) {
      bad.emplace(part_of(name), name);
    }
  }
  result.gradient_norm = std::sqrt(total);
  for (const auto& [model_part, square] : squares) {
    result.part_norms[model_part] = std::sqrt(square);
  }
  const auto add = [&](const std::string& what) {
    result.not_finite += (result.not_finite.empty() ? "" : ", ") + what;
  };
  const auto& losses = result.losses;
  for (const auto& [name, loss] : {std::pair{"loss", losses.cross_entropy},
                                   std::pair{"MTP loss", losses.mtp},
                                   std::pair{"balance loss", losses.balance},
                                   std::pair{"indexer loss", losses.indexer_kl}}) {
    if (!std::isfinite(loss)) {
      add(name);
    }
  }
  for (const auto& [model_part, name] : bad) {
    add(text("gradients of ", model_part, " (", name, ")"));
  }
}

void Trainer::update_routing_biases(const std::vector<at::Tensor>& load_E) {
  const auto biases = model_->routing_biases();
  for (std::size_t i = 0; i < biases.size(); ++i) {
    if (biases[i].defined()) {
      balance_bias(biases[i], load_E[i], config_.loss.bias_update_speed);
    }
  }
}

// What does not learn needs no gradient: autograd then leaves its share of the work out.
void Trainer::freeze_all_but(TrainedPart part) {
  for (const auto& grouped : optimizer_->parameters()) {
    grouped.parameter.value.requires_grad_(grouped.learns_in(part));
  }
}

}  // namespace braid
