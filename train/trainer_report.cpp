// What a run tells: metrics.jsonl, the terminal and log.txt.
#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "core/file.h"
#include "optim/group_table.h"
#include "run/memory.h"
#include "train/trainer.h"

namespace braid {
namespace {

// How far the busiest expert of any learned or hash-routed layer is above the mean: MaxVio.
double max_violation(const std::vector<at::Tensor>& load_E) {
  double worst = 0;
  for (const auto& load : load_E) {
    worst = std::max(worst, load.max().item<double>() / load.mean().item<double>() - 1);
  }
  return worst;
}

int64_t bytes_of(const std::vector<NamedTensor>& tensors) {
  int64_t bytes = 0;
  for (const auto& [name, value] : tensors) {
    bytes += static_cast<int64_t>(value.nbytes());
  }
  return bytes;
}

int64_t state_bytes(const std::vector<TensorPiece>& pieces) {
  int64_t bytes = 0;
  for (const auto& piece : pieces) {
    bytes += static_cast<int64_t>(piece.value.nbytes());
  }
  return bytes;
}

}  // namespace

void Trainer::describe() const {
  int64_t parameters = 0;
  for (const auto& parameter : model_->parameters().all()) {
    parameters += parameter.value.is_floating_point() ? parameter.value.numel() : 0;
  }
  console_->line(text("run ", config_.run_dir().string(), ", ", at::get_num_threads(), " threads"));
  if (const auto& place = grid_.place; place.ranks > 1) {
    const auto& sharding = optimizer_->sharding();
    console_->line(text("ranks: ",
                        place.ranks,
                        " (data ",
                        place.data_size,
                        ", context ",
                        place.context_size,
                        ", expert ",
                        place.expert_size,
                        "); optimizer state divided among ",
                        sharding.dense.owners,
                        ", imbalance of Newton-Schulz ",
                        sharding.dense.flops_imbalance()));
  }
  console_->line(
      text("model: ", parameters, " parameters, ", config_.model.num_hidden_layers, " layers"));
  for (std::size_t i = 0; i < data_.training.size(); ++i) {
    const auto& [name, weight, store] = data_.training[i];
    console_->line(text("data: ",
                        name,
                        ": ",
                        store->num_documents(),
                        " documents, ",
                        store->num_tokens(),
                        " tokens, weight ",
                        weight,
                        ", epochs so far ",
                        loader_->progress().epochs[i]));
  }
  console_->line(data_.validation ? text("validation: ",
                                         data_.validation->num_documents(),
                                         " documents, ",
                                         data_.validation->text_bytes(),
                                         " bytes")
                                  : std::string("validation: none"));
  console_->line(group_table(optimizer_->parameters()));
  bool selects = false;
  for (int64_t i = 0; i < config_.model.num_hidden_layers; ++i) {
    selects |= config_.model.layer(i).attention == AttentionKind::kCsa && config_.model.index_topk;
  }
  if (selects && ever_trained(config_) == TrainedPart::kAllButIndexer) {
    console_->line("indexers: not trained (loss.indexer_mode is off): they select as they are");
  }
}

void Trainer::profile() {
  profile_ = std::make_unique<StepProfile>(scalar_type(config_.train.dtype), grid_.place.ranks);
}

void Trainer::report_profile() {
  if (profile_ && is_first()) {
    const auto measured = profile_->report();
    write_file_atomically(config_.run_dir() / "profile.json", measured.dump(1) + "\n");
    console_->line(profile_table(measured));
  }
}

void Trainer::validate() {
  const auto result = evaluate(
      *model_,
      *data_.validation,
      config_.data.validation_seq_len,
      4,
      [](int64_t, int64_t) {},
      &grid_);
  if (!is_first()) {
    return;
  }
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
  const auto& losses = result.losses;
  const double rate = static_cast<double>(result.counts.targets) / seconds;
  std::vector<Metrics::Value> values = {{"tokens", static_cast<double>(tokens_)},
                                        {"loss", losses.cross_entropy},
                                        {"learning_rate", result.learning_rate},
                                        {"gradient_norm", result.gradient_norm},
                                        {"tokens_per_second", rate},
                                        {"step_seconds", seconds}};
  if (model_->has_mtp()) {
    values.emplace_back("mtp_loss", losses.mtp);
  }
  if (config_.loss.balance_weight > 0) {
    values.emplace_back("balance_loss", losses.balance);
  }
  if (result.learns_indexer) {
    values.emplace_back("indexer_kl", losses.indexer_kl);
  }
  if (losses.indexer_recall[1] > 0) {
    values.emplace_back("indexer_recall", losses.indexer_recall[0] / losses.indexer_recall[1]);
  }
  values.emplace_back("expert_max_violation", max_violation(losses.load_E));
  for (const auto& [part, norm] : result.part_norms) {
    values.emplace_back("gradient_norm." + std::string(part), norm);
  }
  for (const auto& [what, bytes] : result.sent_bytes) {
    values.emplace_back(what, static_cast<double>(bytes));
  }
  if (!result.not_finite.empty()) {
    values.emplace_back("skipped", result.not_finite);
    values.emplace_back("skipped_total", static_cast<double>(skipped_ + 1));
  }
  if (is_first()) {
    metrics_->write(step_, "", values);
  }
  char line[240];
  std::snprintf(
      line,
      sizeof line,
      "step %lld/%lld | loss %.4f%s | norm %.3f | lr %.2e | %.0f tokens/s | %s left",
      static_cast<long long>(step_),
      static_cast<long long>(config_.train.max_steps),
      losses.cross_entropy,
      result.learns_indexer ? text(" | indexer KL ", losses.indexer_kl).c_str() : "",
      result.gradient_norm,
      result.learning_rate,
      rate,
      duration_text(seconds_per_step_ * static_cast<double>(config_.train.max_steps - step_))
          .c_str());
  console_->progress(line,
                     step_ % config_.logging.every_steps == 0 || step_ == config_.train.max_steps);
  report_memory(result);
  report_skipped(result);
}

void Trainer::report_skipped(const StepResult& result) {
  if (result.not_finite.empty()) {
    skipped_in_a_row_ = 0;
    return;
  }
  ++skipped_;
  ++skipped_in_a_row_;
  console_->line(text("step ", step_, " was skipped: not finite: ", result.not_finite));
  require(skipped_in_a_row_ <= config_.stability.max_skipped_steps,
          "step ",
          step_,
          ": ",
          skipped_in_a_row_,
          " steps in a row were not finite (stability.max_skipped_steps is ",
          config_.stability.max_skipped_steps,
          "), the last in: ",
          result.not_finite,
          "; try again with a lower optimizer.learning_rate");
}

// Once for every shape that a step takes.
void Trainer::report_memory(const StepResult& result) {
  if (result.shape == measured_shape_ || !result.not_finite.empty()) {
    return;
  }
  measured_shape_ = result.shape;
  int64_t weights = bytes_of(model_->parameters().tensors());
  for (const auto& parameter : model_->parameters().all()) {
    for (const auto& weight : parameter.quantized) {
      weights += weight.mapped ? 0 : weight.nbytes();
    }
  }
  const int64_t state = state_bytes(optimizer_->local().state());
  int64_t gradients = 0;
  for (const auto& parameter : model_->parameters().all()) {
    const auto& gradient = parameter.value.grad();
    gradients += gradient.defined() ? static_cast<int64_t>(gradient.nbytes()) : 0;
  }
  console_->line(text("memory at ",
                      result.shape[0],
                      " sequences of ",
                      result.shape[1],
                      ": weights ",
                      bytes_text(weights),
                      ", optimizer state ",
                      bytes_text(state),
                      ", gradients ",
                      bytes_text(gradients),
                      ", activations ",
                      bytes_text(std::max<int64_t>(0, result.activation_bytes - gradients)),
                      ", optimizer step ",
                      bytes_text(result.update_bytes),
                      "; process at most ",
                      bytes_text(peak_resident_bytes())));
}

}  // namespace braid
