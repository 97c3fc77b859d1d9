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
  const auto check = [&](const char* key, const std::string& name, const DocumentStore& store) {
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
                 std::unique_ptr<Communicator> ranks,
                 at::Device device)
    : config_(config),
      grid_(grid_of(config_, std::move(ranks))),
      folder_(config_.run_dir(), *grid_.world, from.kind == ResumeFrom::Kind::kNone),
      state_{.model = {},
             .base = {},
             .optimizer = {},
             .loader = {},
             .spikes = SpikeDetector(config_.stability),
             .schedule_steps = config_.train.max_steps,
             .validations = {},
             .ahead = {},
             .alarms = Alarms(config_.stability.alarms)},
      resumer_(config_, grid_, folder_, data_, state_),
      reporter_(config_, grid_, folder_, state_) {
  const auto threads = use_threads(config_.train.threads, *grid_.world);
  use_float32_products(config_.train.products_on(device));
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
    reference = reference_scores(config_, grid_, folder_, data_, device);
    validation_reference_ = std::move(reference.validation);
  }
  grid_.world->all_or_none(
      [&] {
        auto [model, base] = initial_model(config_, grid_, folder_, from, device);
        state_.model = std::move(model);
        state_.base = std::move(base);
      },
      "the initial model");
  state_.optimizer = std::make_unique<ShardedOptimizer>(
      config_.optimizer, config_.parallel, parameter_groups(*state_.model, config_), grid_);
  state_.loader =
      std::make_unique<BackgroundLoader>(Loader(data_.sources(), stream_options(config_)));
  objective_ = make_objective(std::move(reference.training));
  samples_ =
      std::make_unique<TextSamples>(config_.logging.samples, state_.model->config(), *tokenizer_);
  monitors_ = std::make_unique<Monitors>(config_, grid_, state_);
  if (config_.logging.tensorboard) {
    folder_.use_tensorboard();
  }
  if (config_.model.routing_mode == RoutingMode::kAnticipatory) {
    state_.ahead.enter(std::nullopt);
  }

  const bool resumed = resumer_.start_or_resume(from);
  grid_.world->first_alone(
      [&] {
        folder_.open_metrics(state_.step, /*validated=*/!state_.owes_validation);
        folder_.write_config(config_, state_.step);
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
  bool alarmed = false;
  while (!alarmed && !finished() && !stops()) {
    MpiWorld::set_activity(text("step ", state_.step + 1));
    reporter_.begin_step();
    const auto result = train_step();
    alarmed = alarm_stops(reporter_.end_step(result));
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
  if (alarmed || !finished()) {
    return alarmed ? TrainingEnd::kAlarm : TrainingEnd::kInterrupted;
  }
  require_finite_end();
  if (has_nothing_to_do || stopped_improving()) {
    folder_.console().line(why_finished());
  }
  return TrainingEnd::kFinished;
}

// One optimizer step, start to end.
StepResult Trainer::train_step() {
  StepMeter meter(grid_, *state_.optimizer, state_.model->device());
  StepResult result;
  auto& optimizer = *state_.optimizer;

  // 1. What the schedule asks for: losses, learning rate, batch. Only what learns gets gradients.
  monitors_->begin_step(state_.step + 1);
  result.regime = regime_ahead(0);
  learn_only(result.regime.trained);
  const UseQat qat(*state_.model, result.regime.qat);

  // 2. This rank's micro-batches, and what the means of the whole step are divided by.
  const auto samples = next_step_samples();
  const auto& batches = samples.batches;
  result.regime.sequences = samples.sequences;
  result.regime.seq_len = samples.seq_len;
  if (state_.ahead.is_on()) {
    result.routing_delay = config_.model.routing_delay;
  }
  const auto counts = counts_of(batches);

  // 3. Forward and backward pass of each micro-batch. Gradients add up; those that are complete
  //    travel to their owners while the last backward pass goes on.
  clear_gradients();
  meter.forward_backward_begins();
  optimizer.begin_step(result.regime.trained);
  std::vector<MicroBatchLoss> micro_batches;
  for (const auto& batch : batches) {
    optimizer.begin_micro_batch(/*is_last=*/&batch == &batches.back());
    result.regime.options.dropout_key = dropout_key(state_.step, micro_batches.size());
    result.regime.options.observer = micro_batches.empty() ? monitors_->observer() : nullptr;
    if (result.routing_delay) {
      result.regime.options.given_experts =
          given_experts(*state_.model, samples.experts_BSLK[micro_batches.size()]);
    }
    auto loss = objective_->loss(batch, counts, result.regime);
    loss.backward();
    micro_batches.push_back(std::move(loss));
  }

  // 4. Gradients and losses, summed over ranks, and their norms.
  optimizer.reduce();
  result.losses = sum_over_ranks(MicroBatchLoss::read_all(micro_batches), *grid_.world);
  result.gradients = gradient_norms(optimizer);
  result.not_finite = list_not_finite(result.losses, result.gradients);

  // 5. Clip and update, unless a loss or gradient is not finite: then only the data moves on.
  if (result.not_finite.empty()) {
    meter.update_begins();
    if (!result.regime.warms_up_indexer()) {
      optimizer.local().received(result.losses.load_E);
    }
    monitors_->before_update(result.regime.trained, result.regime.learning_rate);
    optimizer.step(result.regime.learning_rate,
                   clip_factor(result.gradients.total, config_.optimizer.max_grad_norm));
    monitors_->after_update(result.losses.load_E);
    require_finite_update(optimizer.first_not_finite());
    if (!result.regime.warms_up_indexer()) {
      update_routing_biases(result.losses.load_E);
    }
  }
  result.regime.options.given_experts = nullptr;
  result.monitored = monitors_->end_step(result.losses);
  state_.count_step(result.losses.tokens, /*was_skipped=*/!result.not_finite.empty());
  if (state_.ahead.finish_step()) {
    leave_anticipatory_routing();
  }

  result.cost = meter.finish({batches.front().ids_BS.size(0), batches.front().ids_BS.size(1)});
  return result;
}

// What does not learn needs no gradient: autograd then leaves its share of the work out.
void Trainer::learn_only(TrainedParts parts) {
  for (const auto& grouped : state_.optimizer->parameters()) {
    grouped.parameter.value.requires_grad_(grouped.learns_in(parts));
  }
}

// With anticipatory routing the samples come through a queue, in which they wait until the experts
// that were chosen for them are model.routing_delay steps old. At first, and after a rollback, all
// that wait are chosen for at once.
StepSamples Trainer::next_step_samples() {
  auto& [remaining, steps] = state_.ahead;
  if (!state_.ahead.is_on()) {
    return samples_of_regime(0);
  }
  while (static_cast<int64_t>(steps.size()) <= config_.model.routing_delay) {
    steps.push_back(samples_of_regime(static_cast<int64_t>(steps.size())));
  }
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (steps[i].experts_BSLK.empty()) {
      choose_experts(steps[i], static_cast<int64_t>(i));
    }
  }
  auto next = std::move(steps.front());
  steps.pop_front();
  return next;
}

StepSamples Trainer::samples_of_regime(int64_t steps_ahead) {
  const auto regime = regime_ahead(steps_ahead);
  return next_samples(*state_.loader,
                      grid_.place,
                      config_.train.micro_batch_size,
                      regime.sequences,
                      regime.seq_len);
}

// As if all steps until then were applied.
Regime Trainer::regime_ahead(int64_t steps) const {
  return regime_at(config_, state_.optimizer->local().steps().all + steps, state_.schedule_steps);
}

void Trainer::choose_experts(StepSamples& samples, int64_t steps_ahead) const {
  const auto regime = regime_ahead(steps_ahead);
  const UseQat qat(*state_.model, regime.qat);
  auto options = regime.options;
  for (std::size_t i = 0; i < samples.batches.size(); ++i) {
    options.dropout_key = dropout_key(state_.step + steps_ahead, i);
    samples.experts_BSLK.push_back(
        chosen_experts(*state_.model, samples.batches[i], options, grid_));
  }
}

// The steps that wait are fetched again when it is their turn.
void Trainer::leave_anticipatory_routing() {
  state_.loader->restore(state_.data_position());
  state_.ahead.steps.clear();
  folder_.console().line(text("step ", state_.step, ": anticipatory routing ends"));
}

// Another one for each micro-batch of each rank.
std::optional<uint64_t> Trainer::dropout_key(int64_t step, std::size_t micro_batch) const {
  if (!config_.lora() || config_.adapter.dropout == 0) {
    return std::nullopt;
  }
  const auto seed = static_cast<uint64_t>(config_.run.seed);
  return random_key(seed,
                    text("adapter dropout, step ",
                         step,
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
  const auto action = config_.stability.spike_action;
  const bool rolled_back = action != SpikeAction::kOff && result.not_finite.empty() &&
                           state_.spikes.spiked(result.losses.loss()) &&
                           resumer_.try_rollback(result.losses.loss());
  if (!rolled_back) {
    return false;
  }
  // What waits was chosen for by parameters that are gone.
  state_.ahead.enter(state_.ahead.remaining);
  if (action == SpikeAction::kAnticipate && state_.ahead.remaining) {
    state_.ahead.enter(config_.stability.anticipatory_steps);
    folder_.console().line(text("step ",
                                state_.step,
                                ": anticipatory routing, delay ",
                                config_.model.routing_delay,
                                ", for ",
                                config_.stability.anticipatory_steps,
                                " steps"));
  }
  return true;
}

// Rank 0 has the record that people see; the others follow it.
bool Trainer::alarm_stops(const std::vector<Metrics::Value>& record) {
  const auto heard = state_.alarms.hear(state_.step, record);
  for (const auto& line : heard.lines) {
    folder_.console().line(line);
  }
  const bool may_stop = std::ranges::any_of(config_.stability.alarms, [](const AlarmRule& rule) {
    return rule.action == AlarmAction::kStop;
  });
  return may_stop && any_rank(grid_.place.rank == 0 && heard.stops, "whether an alarm stops");
}

// Returns whether this is one of the best so far, whose checkpoints are kept. One that a signal
// stops is done again when the run continues.
bool Trainer::validate() {
  state_.owes_validation = false;
  const bool is_last = state_.step >= config_.train.max_steps;  // also where steps were skipped
  const UseQat qat(*state_.model, is_last || regime_ahead(0).qat);
  std::vector<Evaluation> results;
  std::vector<WrittenText> samples;
  try {
    for (std::size_t set = 0; set < data_.validation.size(); ++set) {
      results.push_back(evaluation_of(set));
    }
    samples = written_samples();
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
  reporter_.samples(samples);
  if (results.empty()) {
    return false;
  }
  const auto& judged = results[judged_set(config_.checkpoint, data_)];
  const double loss = best_by(config_.checkpoint).accuracy
                          ? 1 - judged.answers.value().all.accuracy()
                          : judged.loss;
  return std::isfinite(judged.loss) &&
         state_.validations.add(state_.step, loss, config_.checkpoint.keep_best);
}

Evaluation Trainer::evaluation_of(std::size_t set) const {
  constexpr int64_t kRows = 4;
  const auto& store = *data_.validation[set].store;
  const int64_t seq_len = config_.data.validation_seq_len;
  if (config_.loss.objective == ObjectiveKind::kLanguage) {
    const Tokenizer* for_roles = data_.has_samples ? tokenizer_.get() : nullptr;
    return evaluate(*state_.model, store, seq_len, kRows, &grid_, for_roles);
  }
  const auto scores = document_scores(*state_.model, store, seq_len, kRows, &grid_);
  Evaluation result;
  result.preferences =
      preference_means(preference_options(config_.loss), scores, validation_reference_[set]);
  result.loss = result.preferences->loss;
  return result;
}

// None while steps are skipped: weights may be such that nothing can be drawn.
std::vector<WrittenText> Trainer::written_samples() const {
  return state_.skipped_in_a_row > 0
             ? std::vector<WrittenText>{}
             : samples_->write(*state_.model, static_cast<uint64_t>(config_.run.seed), grid_);
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
              best_by(config_.checkpoint).accuracy ? text(" (accuracy ", 1 - best.front().loss)
                                                   : text(" (loss ", best.front().loss),
              "). Raise train.stop_when_worse_for to go on",
              config_.checkpoint.keep_best > 0 ? text("; the best is in ", resumer_.best_link())
                                               : std::string(),
              ".");
}

bool Trainer::any_rank(bool here, const char* what) const {
  return grid_.place.ranks == 1 ? here : grid_.world->sum({here ? 1 : 0}, what)[0] > 0;
}

}  // namespace braid
