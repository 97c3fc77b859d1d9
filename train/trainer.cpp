#include "train/trainer.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>

#include "core/interruption.h"
#include "core/profile.h"
#include "core/random.h"
#include "optim/clip.h"
#include "parallel/mpi_world.h"
#include "run/epoch_steps.h"
#include "run/grouped_parameters.h"
#include "run/memory.h"
#include "run/threads.h"
#include "train/compare_weights.h"
#include "train/language_objective.h"
#include "train/preference_objective.h"
#include "train/reference_scores.h"
#include "train/step_meter.h"

namespace braid {
namespace {

ProcessGrid grid_of(const RunConfig& config, std::unique_ptr<Communicator> ranks) {
  const auto place = config.place_of(ranks->rank(), ranks->size());
  return ProcessGrid(std::move(ranks), place);
}

// Rank 0 builds the token stores; the others then open them.
PreparedData prepared_data(const RunConfig& config,
                           const Tokenizer& tokenizer,
                           const RunPaths& paths,
                           Communicator& ranks) {
  PreparedData data;
  const DataPaths in_run{paths.token_stores(), paths.validation_text()};
  const auto prepare = [&] { data = prepare_data(config.data, tokenizer, in_run); };
  ranks.first_alone(prepare, "the data");
  ranks.all_or_none(
      [&] {
        if (ranks.rank() != 0) {
          prepare();
        }
      },
      "opening the data");
  return data;
}

// Pairs are learned from as pairs alone.
void require_fitting_data(ObjectiveKind objective, const PreparedData& data) {
  const bool wants_pairs = objective == ObjectiveKind::kPreference;
  const auto check = [&](const char* key, const std::string& name, const TokenStore& store) {
    const bool pairs = store.documents_per_sample() > 1;
    if (pairs != wants_pairs) {
      throw ConfigError(
          "loss.objective",
          text("is ",
               wants_pairs ? "preference" : "language",
               ", but ",
               key,
               name.empty() ? "" : " " + name,
               pairs ? " holds pairs of a chosen and a rejected answer (data.format: preference); "
                       "expected loss.objective: preference"
                     : " holds no pairs; expected data.format: preference"));
    }
  };
  for (const auto& source : data.training) {
    check("data.train", source.name, *source.store);
  }
  for (const auto& set : data.validation) {
    check("data.validation", set.name, *set.store);
  }
}

PreferenceOptions preference_options(const LossSection& loss) {
  return {.beta = loss.preference_beta, .length_normalized = loss.preference_length_normalized};
}

// Documents of text may be divided at any length.
void require_whole_samples(const RunConfig& config, const PreparedData& data) {
  const auto& ramp = config.schedule.seq_len;
  for (std::size_t i = 0; data.has_samples && i < ramp.size(); ++i) {
    if (ramp[i].value < config.data.seq_len) {
      throw ConfigError(text("schedule.seq_len[", i, "].value"),
                        text("is ",
                             ramp[i].value,
                             ", less than data.seq_len ",
                             config.data.seq_len,
                             ", which the samples fit; they would be divided. Expected lengths "
                             "that grow from data.seq_len"));
    }
  }
}

}  // namespace

Trainer::Trainer(const RunConfig& config,
                 const ResumeFrom& from,
                 std::unique_ptr<Communicator> ranks)
    : config_(config),
      grid_(grid_of(config_, std::move(ranks))),
      folder_(config_.run_dir(), *grid_.world, from.kind == ResumeFrom::Kind::kNone),
      state_{.model = {},
             .base = {},
             .optimizer = {},
             .loader = {},
             .spikes = SpikeDetector(config_.stability),
             .schedule_steps = config_.train.max_steps,
             .validations = {}},
      resumer_(config_, grid_, folder_, data_, state_),
      reporter_(config_, grid_, folder_, state_) {
  const auto threads = use_threads(config_.train.threads, *grid_.world);
  TensorMemory::watch();

  tokenizer_ = make_tokenizer(config_.tokenizer);
  data_ = prepared_data(config_, *tokenizer_, folder_.paths(), *grid_.world);
  count_epochs(data_, config_);
  if (config_.train.epochs) {
    folder_.console().line(text("train.epochs ",
                                real_text(*config_.train.epochs),
                                ": ",
                                config_.train.max_steps.steps(),
                                " steps"));
  }
  state_.schedule_steps = config_.train.max_steps;
  require_whole_samples(config_, data_);
  require_fitting_data(config_.loss.objective, data_);
  ReferenceScores reference;
  if (config_.loss.objective == ObjectiveKind::kPreference) {
    reference = reference_scores(config_, grid_, folder_, data_);
    validation_reference_ = std::move(reference.validation);
  }
  grid_.world->all_or_none(
      [&] {
        auto [model, base] = initial_model(config_, grid_, folder_, from);
        state_.model = std::move(model);
        state_.base = std::move(base);
      },
      "the initial model");
  state_.optimizer = std::make_unique<ShardedOptimizer>(
      config_.optimizer, config_.parallel, parameter_groups(*state_.model, config_), grid_);
  state_.loader =
      std::make_unique<BackgroundLoader>(Loader(data_.sources(), stream_options(config_)));
  objective_ = make_objective(std::move(reference.training));

  const bool resumed = resumer_.start_or_resume(from);
  grid_.world->first_alone(
      [&] {
        folder_.open_metrics(state_.step, /*validated=*/!state_.owes_validation);
        folder_.write_config(config_);
      },
      "metrics.jsonl");
  reporter_.describe_run(data_, threads, resumed);
  if (resumed) {
    folder_.console().line(text("continuing after step ", state_.step));
  }
}

std::unique_ptr<Objective> Trainer::make_objective(std::vector<DocumentScore> reference) const {
  if (config_.loss.objective == ObjectiveKind::kLanguage) {
    return std::make_unique<LanguageObjective>(*state_.model);
  }
  return std::make_unique<PreferenceObjective>(
      *state_.model,
      preference_options(config_.loss),
      std::move(reference),
      grid_.place.context_size > 1 ? grid_.context.get() : nullptr);
}

TrainingEnd Trainer::run(const std::function<bool()>& interrupted) {
  const int64_t max_steps = config_.train.max_steps;
  const bool has_nothing_to_do = finished();
  const auto due = [this](int64_t every) { return every > 0 && state_.step % every == 0; };
  const auto stops = [&] {
    return any_rank(interrupted(), "whether to stop") ||
           grid_.world->agree_on_interruption("whether to stop");
  };
  if (state_.owes_validation) {
    const bool is_among_best = validate();
    if (is_among_best || finished()) {
      resumer_.save_again();
    }
  }
  while (!finished() && !stops()) {
    MpiWorld::set_activity(text("step ", state_.step + 1));
    reporter_.begin_step();
    const auto result = train_step();
    reporter_.end_step(result);
    require_some_finite_step(result);
    if (rolled_back_after_spike(result)) {
      continue;
    }
    bool is_among_best = false;
    if (due(config_.train.validate_every_steps) || state_.step == max_steps) {
      is_among_best = validate();
    }
    resumer_.poll();
    if (due(config_.parallel.compare_every_steps)) {
      compare_weights(*state_.model, grid_, state_.step);
    }
    if (is_among_best) {
      resumer_.save();
    } else if (due(config_.checkpoint.every_steps)) {
      resumer_.save_if_proven();
    }
  }
  resumer_.save();
  resumer_.finish();
  reporter_.report_profile();
  if (!finished()) {
    return TrainingEnd::kInterrupted;
  }
  require_finite_end();
  if (has_nothing_to_do || stopped_improving()) {
    folder_.console().line(why_finished());
  }
  return TrainingEnd::kFinished;
}

// One optimizer step, start to end.
StepResult Trainer::train_step() {
  StepMeter meter(grid_, *state_.optimizer);
  StepResult result;
  auto& optimizer = *state_.optimizer;

  // 1. What the schedule asks for: losses, learning rate, batch. Only what learns gets gradients.
  result.regime = regime_at(config_, optimizer.local().steps().all, state_.schedule_steps);
  learn_only(result.regime.trained);

  // 2. This rank's micro-batches, and what the means of the whole step are divided by.
  const auto batches = next_batches(result.regime);
  const auto counts = counts_of(batches);

  // 3. Forward and backward pass of each micro-batch. Gradients add up; those that are complete
  //    travel to their owners while the last backward pass goes on.
  clear_gradients();
  meter.forward_backward_begins();
  optimizer.begin_step(result.regime.trained);
  std::vector<Losses> micro_batches;
  for (const auto& batch : batches) {
    optimizer.begin_micro_batch(/*is_last=*/&batch == &batches.back());
    result.regime.options.dropout_key = dropout_key(micro_batches.size());
    auto loss = objective_->loss(batch, counts, result.regime);
    loss.backward();
    micro_batches.push_back(loss.read());
  }

  // 4. Gradients and losses, summed over ranks, and their norms.
  optimizer.reduce();
  result.losses = sum_over_ranks(micro_batches, *grid_.world);
  result.gradients = gradient_norms(optimizer);
  result.not_finite = list_not_finite(result.losses, result.gradients);

  // 5. Clip and update, unless a loss or gradient is not finite: then only the data moves on.
  if (result.not_finite.empty()) {
    meter.update_begins();
    if (!result.regime.warms_up_indexer()) {
      optimizer.local().received(result.losses.load_E);
    }
    optimizer.step(result.regime.learning_rate,
                   clip_factor(result.gradients.total, config_.optimizer.max_grad_norm));
    require_finite_update(optimizer.first_not_finite());
    if (!result.regime.warms_up_indexer()) {
      update_routing_biases(result.losses.load_E);
    }
  }
  state_.count_step(result.losses.tokens, /*was_skipped=*/!result.not_finite.empty());

  result.cost = meter.finish({batches.front().ids_BS.size(0), batches.front().ids_BS.size(1)});
  return result;
}

// What does not learn needs no gradient: autograd then leaves its share of the work out.
void Trainer::learn_only(TrainedParts parts) {
  for (const auto& grouped : state_.optimizer->parameters()) {
    grouped.parameter.value.requires_grad_(grouped.learns_in(parts));
  }
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
      auto batch = state_.loader->next(
          {std::min(config_.train.micro_batch_size, share - row), regime.seq_len});
      if (d == place.data) {
        batches.push_back(std::move(batch));
      }
    }
  }
  return batches;
}

// Another one for each micro-batch of each rank.
std::optional<uint64_t> Trainer::dropout_key(std::size_t micro_batch) const {
  if (!config_.lora() || config_.adapter.dropout == 0) {
    return std::nullopt;
  }
  const auto seed = static_cast<uint64_t>(config_.run.seed);
  return random_key(seed,
                    text("adapter dropout, step ",
                         state_.step,
                         ", rank ",
                         grid_.place.rank,
                         ", micro-batch ",
                         micro_batch));
}

LossCounts Trainer::counts_of(const std::vector<Batch>& batches) const {
  LossCounts own;
  for (const auto& batch : batches) {
    add(own, objective_->counts(batch));
  }
  return sum_over_ranks(own, grid_);
}

void Trainer::clear_gradients() {
  for (const auto& parameter : state_.model->parameters().all()) {
    parameter.value.mutable_grad().reset();
  }
}

void Trainer::update_routing_biases(const std::vector<at::Tensor>& load_E) {
  const auto biases = moving_routing_biases(*state_.model, state_.optimizer->parameters());
  require(load_E.size() == biases.size(),
          "the objective reports the expert loads of ",
          load_E.size(),
          " layers, the model has ",
          biases.size());
  for (std::size_t i = 0; i < biases.size(); ++i) {
    if (biases[i].defined()) {
      balance_bias(biases[i], load_E[i], config_.loss.bias_update_speed);
    }
  }
}

// The weights are gone; what is on the disk is sound.
void Trainer::require_finite_update(const std::string& not_finite) {
  if (!not_finite.empty()) {
    const auto way_on = resumer_.way_on(state_.step);
    fail("step ",
         state_.step + 1,
         ": the optimizer's update made ",
         not_finite,
         " not finite, so the run stops without saving it. ",
         way_on);
  }
}

void Trainer::require_some_finite_step(const StepResult& result) {
  if (state_.skipped_in_a_row > config_.stability.max_skipped_steps) {
    const auto way_on = resumer_.leave_not_finite();
    fail("step ",
         state_.step,
         ": ",
         state_.skipped_in_a_row,
         " steps in a row were not finite (stability.max_skipped_steps is ",
         config_.stability.max_skipped_steps,
         "), the last in: ",
         result.not_finite,
         ". ",
         way_on);
  }
}

// A model whose last steps were all skipped has not been shown to compute anything.
void Trainer::require_finite_end() {
  if (state_.skipped_in_a_row > 0 && data_.validation.empty()) {
    const auto way_on = resumer_.leave_not_finite();
    fail("the run ended, but its last ",
         state_.skipped_in_a_row,
         state_.skipped_in_a_row == 1 ? " step was" : " steps were",
         " not finite. ",
         way_on);
  }
}

bool Trainer::rolled_back_after_spike(const StepResult& result) {
  return config_.stability.spike_action != SpikeAction::kOff && result.not_finite.empty() &&
         state_.spikes.spiked(result.losses.loss()) && resumer_.try_rollback(result.losses.loss());
}

// Returns whether this is one of the best so far, whose checkpoints are kept. One that a signal
// stops is done again when the run continues.
bool Trainer::validate() {
  state_.owes_validation = false;
  std::vector<Evaluation> results;
  try {
    for (std::size_t set = 0; set < data_.validation.size(); ++set) {
      results.push_back(evaluation_of(set));
    }
  } catch (const Interrupted&) {
    state_.owes_validation = true;
    return false;
  }
  for (std::size_t i = 0; i < results.size(); ++i) {
    const auto& name = data_.validation[i].name;
    reporter_.validation(name, results[i]);
    // While steps are skipped, they decide whether the run can go on.
    if (!std::isfinite(results[i].loss) &&
        (state_.skipped_in_a_row == 0 || state_.step >= config_.train.max_steps)) {
      const auto way_on = resumer_.leave_not_finite();
      fail("step ",
           state_.step,
           ": the validation loss",
           name.empty() ? "" : " of " + name,
           " is not finite. ",
           way_on);
    }
  }
  if (results.empty()) {
    return false;
  }
  const double loss = results[judged_set(config_.checkpoint, data_)].loss;
  return std::isfinite(loss) &&
         state_.validations.add(state_.step, loss, config_.checkpoint.keep_best);
}

Evaluation Trainer::evaluation_of(std::size_t set) const {
  constexpr int64_t kRows = 4;
  const auto& store = *data_.validation[set].store;
  const int64_t seq_len = config_.data.validation_seq_len;
  if (config_.loss.objective == ObjectiveKind::kLanguage) {
    return evaluate(*state_.model, store, seq_len, kRows, &grid_);
  }
  const auto scores = document_scores(*state_.model, store, seq_len, kRows, &grid_);
  Evaluation result;
  result.preferences =
      preference_means(preference_options(config_.loss), scores, validation_reference_[set]);
  result.loss = result.preferences->loss;
  return result;
}

bool Trainer::finished() const {
  return !state_.owes_validation && (state_.step >= config_.train.max_steps || stopped_improving());
}

bool Trainer::stopped_improving() const {
  const int64_t patience = config_.train.stop_when_worse_for;
  return patience > 0 && state_.validations.worse_for >= patience;
}

std::string Trainer::why_finished() const {
  if (!stopped_improving()) {
    return text("The run is finished: step ",
                state_.step,
                " of ",
                config_.train.max_steps.steps(),
                ". Raise train.",
                config_.train.epochs ? "epochs" : "max_steps",
                " to go on, or choose another run.name.");
  }
  const auto& [set, best, worse_for] = state_.validations;
  return text("The run ended after step ",
              state_.step,
              " of ",
              config_.train.max_steps.steps(),
              ": ",
              worse_for,
              worse_for == 1 ? " validation was" : " validations in a row were",
              " no better than that after step ",
              best.front().step,
              " (loss ",
              best.front().loss,
              "). Raise train.stop_when_worse_for to go on",
              config_.checkpoint.keep_best > 0 ? text("; the best is in ", resumer_.best_link())
                                               : std::string(),
              ".");
}

bool Trainer::any_rank(bool here, const char* what) const {
  return grid_.place.ranks == 1 ? here : grid_.world->sum({here ? 1 : 0}, what)[0] > 0;
}

}  // namespace braid
