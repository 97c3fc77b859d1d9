#include "train/trainer.h"

#include <chrono>
#include <cmath>
#include <thread>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include "model/losses.h"
#include "optim/clip.h"
#include "optim/schedule.h"

namespace braid {

TrainingEnd Trainer::run(const std::function<bool()>& interrupted) {
  while (step_ < config_.train.max_steps && !interrupted()) {
    const auto start = std::chrono::steady_clock::now();
    const auto result = train_step();
    report(result, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());

    const auto due = [this](int64_t every) { return every > 0 && step_ % every == 0; };
    if (data_.validation &&
        (due(config_.train.validate_every_steps) || step_ == config_.train.max_steps)) {
      validate();
    }
    if (due(config_.checkpoint.every_steps)) {
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
  // 1. The step's micro-batches, and how many targets they count together.
  std::vector<Batch> batches;
  int64_t targets = 0, mtp_count = 0;
  for (int64_t rows = 0; rows < config_.train.global_batch_size;
       rows += config_.train.micro_batch_size) {
    batches.push_back(loader_->next({config_.train.micro_batch_size, config_.data.seq_len}));
    targets += batches.back().num_targets;
    if (model_->has_mtp()) {
      mtp_count +=
          counted_targets(mtp_targets(batches.back().targets_BS, batches.back().documents_BS));
    }
  }

  // 2. Losses and gradients.
  StepResult result;
  for (const auto& parameter : model_->parameters().all()) {
    parameter.value.mutable_grad().reset();
  }
  expert_load_E_.assign(model_->routing_biases().size(), {});
  for (const auto& batch : batches) {
    forward_backward(batch, targets, mtp_count, result);
  }

  // 3. Clip, and leave everything as it was when a gradient is not finite.
  result.tokens = targets;
  result.gradient_norm = clip_gradients(gradients(), config_.optimizer.max_grad_norm);
  result.applied = std::isfinite(result.gradient_norm) && std::isfinite(result.loss);
  result.learning_rate =
      config_.optimizer.learning_rate *
      learning_rate_factor(config_.schedule, optimizer_->steps(), config_.train.max_steps);

  // 4. Update.
  if (result.applied) {
    optimizer_->step(result.learning_rate);
    update_routing_biases();
  }
  ++step_;
  tokens_ += targets;
  return result;
}

void Trainer::forward_backward(const Batch& batch,
                               int64_t targets,
                               int64_t mtp_count,
                               StepResult& result) {
  const Tokens tokens{batch.ids_BS, batch.documents_BS, batch.positions_BS};
  Observations observations;
  const auto hidden = model_->forward(tokens, &observations);
  const auto mean = [](const at::Tensor& sum, int64_t count) {
    return sum / std::max<int64_t>(1, count);
  };
  auto loss = mean(cross_entropy_sum(model_->logits(hidden.final_BSD), batch.targets_BS), targets);
  result.loss += loss.item<double>();
  if (model_->has_mtp()) {
    const auto mtp_logits = model_->logits(model_->mtp_forward(tokens, hidden, &observations));
    const auto mtp_loss =
        mean(cross_entropy_sum(mtp_logits, mtp_targets(batch.targets_BS, batch.documents_BS)),
             mtp_count);
    result.mtp_loss += mtp_loss.item<double>();
    loss = loss + mtp_weight() * mtp_loss;
  }
  loss.backward();

  const auto real_T1 = (batch.documents_BS >= 0).flatten().unsqueeze(-1);
  for (std::size_t i = 0; i < observations.routing.size(); ++i) {
    const auto load =
        expert_load(observations.routing[i].experts_TK, real_T1, config_.model.n_routed_experts);
    expert_load_E_[i] = expert_load_E_[i].defined() ? expert_load_E_[i] + load : load;
  }
}

void Trainer::update_routing_biases() {
  const auto biases = model_->routing_biases();
  for (std::size_t i = 0; i < biases.size(); ++i) {
    if (biases[i].defined()) {
      balance_bias(biases[i], expert_load_E_[i], config_.loss.bias_update_speed);
    }
  }
}

double Trainer::mtp_weight() const {
  const bool decaying =
      optimizer_->steps() >= decay_start_step(config_.schedule, config_.train.max_steps);
  return decaying ? config_.loss.mtp_decay_weight : config_.loss.mtp_weight;
}

std::vector<at::Tensor> Trainer::gradients() const {
  std::vector<at::Tensor> result;
  for (const auto& grouped : optimizer_->parameters()) {
    if (grouped.optimizer != OptimizerKind::kNone) {
      result.push_back(grouped.parameter.value.grad());
    }
  }
  return result;
}

void Trainer::validate() {
  const auto result = evaluate(*model_, *data_.validation, config_.data.validation_seq_len, 4);
  metrics_->write(step_,
                  "validation",
                  {{"loss", result.loss},
                   {"perplexity", std::exp(result.loss)},
                   {"bits_per_byte", result.bits_per_byte},
                   {"tokens", static_cast<double>(result.tokens)}});
  console_->line(text("step ",
                      step_,
                      " | validation loss ",
                      result.loss,
                      " | bits per byte ",
                      result.bits_per_byte));
}

void Trainer::report(const StepResult& result, double seconds) {
  // The first step pays for warming up and would mislead the estimate.
  seconds_per_step_ = seconds_per_step_ == 0 ? seconds : 0.9 * seconds_per_step_ + 0.1 * seconds;
  const double rate = static_cast<double>(result.tokens) / seconds;
  std::vector<Metrics::Value> values = {{"tokens", static_cast<double>(tokens_)},
                                        {"loss", result.loss},
                                        {"learning_rate", result.learning_rate},
                                        {"gradient_norm", result.gradient_norm},
                                        {"tokens_per_second", rate},
                                        {"step_seconds", seconds}};
  if (model_->has_mtp()) {
    values.emplace_back("mtp_loss", result.mtp_loss);
  }
  if (!result.applied) {
    values.emplace_back("skipped", 1);
  }
  metrics_->write(step_, "", values);

  char line[200];
  std::snprintf(
      line,
      sizeof line,
      "step %lld/%lld | loss %.4f | norm %.3f | lr %.2e | %.0f tokens/s | %s left",
      static_cast<long long>(step_),
      static_cast<long long>(config_.train.max_steps),
      result.loss,
      result.gradient_norm,
      result.learning_rate,
      rate,
      duration_text(seconds_per_step_ * static_cast<double>(config_.train.max_steps - step_))
          .c_str());
  console_->progress(line,
                     step_ % config_.logging.every_steps == 0 || step_ == config_.train.max_steps);

  skipped_in_a_row_ = result.applied ? 0 : skipped_in_a_row_ + 1;
  if (!result.applied) {
    console_->line(text("step ",
                        step_,
                        ": loss ",
                        result.loss,
                        ", gradient norm ",
                        result.gradient_norm,
                        "; the step was skipped"));
    require(skipped_in_a_row_ <= config_.train.max_skipped_steps,
            "step ",
            step_,
            ": ",
            skipped_in_a_row_,
            " steps in a row were not finite (train.max_skipped_steps is ",
            config_.train.max_skipped_steps,
            "); try again with a lower optimizer.learning_rate");
  }
}

}  // namespace braid
