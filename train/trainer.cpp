#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include <ATen/ATen.h>

#include "core/file.h"
#include "core/profile.h"
#include "optim/clip.h"
#include "parallel/mpi_world.h"
#include "plan/plan.h"
#include "run/memory.h"
#include "run/parts.h"

namespace braid {

TrainingEnd Trainer::run(const std::function<bool()>& interrupted) {
  while (step_ < config_.train.max_steps && !any_rank(interrupted(), "whether to stop")) {
    MpiWorld::set_activity(text("step ", step_ + 1));
    if (profile_) {
      profile_->begin_step();
    }
    const auto start = std::chrono::steady_clock::now();
    const auto result = train_step();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    if (profile_) {
      profile_->end_step(result.counts.targets, result.flops);
    }
    report(result, seconds.count());
    if (config_.stability.spike_action != SpikeAction::kOff && result.not_finite.empty() &&
        spikes_.spiked(result.losses.cross_entropy) && rolled_back(result)) {
      continue;
    }

    const auto due = [this](int64_t every) { return every > 0 && step_ % every == 0; };
    if (data_.validation &&
        (due(config_.train.validate_every_steps) || step_ == config_.train.max_steps)) {
      validate();
    }
    saved(saver_.poll());
    if (due(config_.parallel.compare_every_steps)) {
      compare_weights();
    }
    if (due(config_.checkpoint.every_steps) && saved_step_ != step_) {
      save();
    }
  }
  if (saved_step_ != step_) {
    save();
  }
  saved(saver_.finish());
  report_profile();
  return step_ < config_.train.max_steps ? TrainingEnd::kInterrupted : TrainingEnd::kFinished;
}

// One optimizer step, start to end.
Trainer::StepResult Trainer::train_step() {
  StepResult result;
  const auto sent_before = sent_bytes();
  const auto regime = regime_at(config_, optimizer_->local().steps().all);
  freeze_all_but(regime.part);

  // 1. This rank's micro-batches, and what the whole step's losses are divided by.
  const auto batches = next_batches(regime);
  result.counts = counts_of(batches);
  result.shape = {batches.front().ids_BS.size(0), batches.front().ids_BS.size(1)};
  result.learns_indexer = regime.weights.indexer > 0;
  result.flops = forward_backward_flops(config_.model, regime) *
                 static_cast<double>(regime.sequences * regime.seq_len);

  // 2. Losses and gradients, summed over micro-batches and ranks.
  forward_backward(batches, regime, result);
  measure_gradients(result);

  // 3. Clip and update, unless a loss or gradient is not finite: then all stays as it was.
  result.learning_rate = regime.learning_rate;
  if (result.not_finite.empty()) {
    const int64_t before = TensorMemory::now();
    TensorMemory::take_peak();
    optimizer_->step(regime.learning_rate,
                     clip_factor(result.gradient_norm, config_.optimizer.max_grad_norm));
    result.update_bytes = TensorMemory::take_peak() - before;
    if (!regime.warms_up_indexer()) {
      update_routing_biases(result.losses.load_E);
    }
  }
  ++step_;
  tokens_ += result.counts.targets;
  result.sent_bytes = sent_bytes();
  for (auto& [what, bytes] : result.sent_bytes) {
    bytes -= sent_before.at(what);
  }
  return result;
}

// Each rank goes through the whole step's samples and keeps its own: consecutive ones, so that
// micro-batches are the same on any number of ranks as long as their size divides the share. Ranks
// of a context group have the same ones; the model gives each its tokens of them.
std::vector<Batch> Trainer::next_batches(const Regime& regime) {
  const ProfileScope scope("loader", ProfileKind::kStep);
  const auto& place = grid_.place;
  const int64_t share = regime.sequences / place.data_size;
  std::vector<Batch> batches;
  for (int64_t d = 0; d < place.data_size; ++d) {
    for (int64_t row = 0; row < share; row += config_.train.micro_batch_size) {
      auto batch =
          loader_->next({std::min(config_.train.micro_batch_size, share - row), regime.seq_len});
      if (d == place.data) {
        batches.push_back(std::move(batch));
      }
    }
  }
  return batches;
}

LossCounts Trainer::counts_of(const std::vector<Batch>& batches) const {
  LossCounts own;
  for (const auto& batch : batches) {
    own.add(
        config_.model, {batch.ids_BS, batch.documents_BS, batch.positions_BS}, batch.targets_BS);
  }
  std::vector<int64_t> numbers = {own.targets, own.mtp_targets, own.tokens};
  for (const auto& [ratio, count] : own.indexed) {
    numbers.push_back(count);
  }
  numbers = grid_.world->sum(numbers, "token counts");
  for (auto& number : numbers) {
    number /= grid_.place.context_size;  // ranks that share their sequences all counted them
  }
  LossCounts all = own;
  all.targets = numbers[0];
  all.mtp_targets = numbers[1];
  all.tokens = numbers[2];
  std::size_t next = 3;
  for (auto& [ratio, count] : all.indexed) {
    count = numbers[next++];
  }
  return all;
}

void Trainer::forward_backward(const std::vector<Batch>& batches,
                               const Regime& regime,
                               StepResult& result) {
  for (const auto& parameter : model_->parameters().all()) {
    parameter.value.mutable_grad().reset();
  }
  TensorMemory::take_peak();
  const int64_t before = TensorMemory::now();
  optimizer_->begin_step(regime.part);
  std::vector<Losses> micro_batches;
  for (const auto& batch : batches) {
    optimizer_->begin_micro_batch(/*is_last=*/&batch == &batches.back());
    auto losses = losses_of(*model_,
                            {batch.ids_BS, batch.documents_BS, batch.positions_BS},
                            batch.targets_BS,
                            result.counts,
                            regime.weights,
                            regime.options);
    if (losses.total.requires_grad()) {
      const ProfileScope scope("backward pass",
                               ProfileKind::kStep);  // whose nodes have their parts
      losses.total.backward();
    }
    losses.total.reset();
    micro_batches.push_back(std::move(losses));
  }
  optimizer_->reduce();
  result.losses = sum_over_ranks(micro_batches);
  result.activation_bytes = TensorMemory::take_peak() - before;
}

// In the order of micro-batches, whichever rank had them.
Losses Trainer::sum_over_ranks(const std::vector<Losses>& micro_batches) const {
  std::vector<double> own;
  for (const auto& losses : micro_batches) {
    own.insert(own.end(),
               {losses.cross_entropy,
                losses.mtp,
                losses.balance,
                losses.indexer_kl,
                losses.indexer_recall[0],
                losses.indexer_recall[1]});
    for (const auto& load_E : losses.load_E) {
      const double* loads = load_E.const_data_ptr<double>();
      own.insert(own.end(), loads, loads + load_E.numel());
    }
  }
  Losses sum;
  for (const auto& numbers : grid_.world->all_gather(own, "losses")) {
    for (auto next = numbers.begin(); next != numbers.end();) {
      Losses losses;
      for (double* value : {&losses.cross_entropy,
                            &losses.mtp,
                            &losses.balance,
                            &losses.indexer_kl,
                            &losses.indexer_recall[0],
                            &losses.indexer_recall[1]}) {
        *value = *next++;
      }
      for (const auto& like : micro_batches.front().load_E) {
        losses.load_E.push_back(at::tensor(at::ArrayRef(&*next, like.numel()), at::kDouble));
        next += like.numel();
      }
      sum.add(losses);
    }
  }
  return sum;
}

// Since the start; nothing when there is no other rank.
std::map<std::string, int64_t> Trainer::sent_bytes() const {
  if (grid_.place.ranks == 1) {
    return {};
  }
  return {{"sent_bytes.context", grid_.context->bytes_sent()},
          {"sent_bytes.experts", grid_.experts->bytes_sent()},
          {"sent_bytes.updates", optimizer_->bytes_sent()}};
}

bool Trainer::any_rank(bool here, const char* what) const {
  return grid_.place.ranks == 1 ? here : grid_.world->sum({here ? 1 : 0}, what)[0] > 0;
}

// Weights that every rank computes or receives alike must have the same bits everywhere.
void Trainer::compare_weights() const {
  if (grid_.place.ranks == 1) {
    return;
  }
  const auto digest = [&](bool experts) {
    std::string digests;
    for (const auto& parameter : model_->parameters().all()) {
      if (parameter.quantized.empty() && is_stack(parameter.name) == experts) {
        const auto value = parameter.value.detach().contiguous();
        digests += xxh3_128({static_cast<const char*>(value.const_data_ptr()), value.nbytes()});
      }
    }
    return xxh3_128(digests);
  };
  const auto same = [&](Communicator& group, const std::string& own, const char* which) {
    const auto digests = group.all_gather(own, "weight checksums");
    for (std::size_t r = 0; r < digests.size(); ++r) {
      require(digests[r] == digests[0],
              "step ",
              step_,
              ": ",
              which,
              " of rank ",
              r,
              " of their group differ from rank 0's, although each step gives them the same: a "
              "fault of memory, network or program; restart from the last checkpoint");
    }
  };
  same(*grid_.world, digest(/*experts=*/false), "the weights");
  same(*grid_.replicas, digest(/*experts=*/true), "the experts' weights");
}

// Norms of the whole and of each part, and where something is not finite.
void Trainer::measure_gradients(StepResult& result) {
  const ProfileScope scope("gradient norm", ProfileKind::kStep);
  std::map<std::string_view, double> squares;
  std::map<std::string_view, std::string> bad;  // part -> its first parameter that is not finite
  double total = 0;
  for (const auto& [name, square] : optimizer_->squared_norms()) {
    total += square;
    squares[part_of(name)] += square;
    if (!std::isfinite(square)) {
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
