#include "train/resumer.h"

#include <algorithm>
#include <sstream>

#include "checkpoint/history.h"
#include "formats/adapters.h"
#include "formats/open_model.h"
#include "formats/tensor_table.h"
#include "optim/schedule.h"
#include "run/grouped_parameters.h"
#include "run/regime.h"

namespace braid {

namespace fs = std::filesystem;

namespace {

// With the weights of the folder `source`, if there is one, of which the console says `what`, and
// those of an adapter's folder, if there is one.
InitialModel model_with_weights(const RunConfig& config,
                                const ProcessGrid& grid,
                                RunFolder& folder,
                                const std::string& source,
                                const char* what,
                                const std::string& adapter,
                                at::Device device) {
  const auto dtype = scalar_type(config.train.dtype);
  const auto seed = static_cast<uint64_t>(config.run.seed);
  const ModelRanks ranks{
      .experts = {.group = grid.place.expert_size > 1 ? grid.experts.get() : nullptr,
                  .waves = config.parallel.expert_waves},
      .context = {grid.place.context_size > 1 ? grid.context.get() : nullptr}};
  if (source.empty()) {
    return {std::make_unique<Transformer>(config.model,
                                          dtype,
                                          seed,
                                          nullptr,
                                          ranks,
                                          device,
                                          config.lora(),
                                          config.train.working_copies),
            {}};
  }
  auto stored = read_model(source);
  configure(stored, config.model, config.lora());
  if (config.lora() && !adapter.empty()) {
    start_from_adapter(stored, adapter);
    folder.console().line("starting from the adapters of " + adapter);
  }
  for (const auto& note : stored.notes) {
    folder.console().line("note: " + note);
  }
  if (stored.draws_mtp) {
    folder.console().line("note: the MTP block starts from random values, for " + stored.source +
                          " has none");
  }
  folder.console().line(text(what, " ", stored.source));
  const auto frozen = frozen_parameters(config);
  const auto is_frozen = [&](const std::string& name) {  // of experts, this rank's stack
    return frozen.contains(is_stack(name) ? stack_from(name, 0) : name);
  };
  auto model = model_of(stored,
                        dtype,
                        seed,
                        is_frozen,
                        ranks,
                        device,
                        config.expert_room(),
                        config.train.working_copies);
  std::optional<BaseModel> base;
  if (std::ranges::any_of(model->parameters().all(), &Parameter::in_base)) {
    base = base_at(stored.base);
  }
  return {std::move(model), base};
}

}  // namespace

InitialModel initial_model(const RunConfig& config,
                           const ProcessGrid& grid,
                           RunFolder& folder,
                           const ResumeFrom& from,
                           at::Device device) {
  const auto checkpoint = from.kind == ResumeFrom::Kind::kPath
                              ? std::optional(from.path)
                              : newest_complete_checkpoint(folder.paths().checkpoints());
  if (!checkpoint) {
    auto initial = first_model(config, grid, folder, device);
    if (initial.base) {
      folder.console().line("frozen weights stay in " + initial.base->folder +
                            ": checkpoints of this run need that folder");
    }
    return initial;
  }
  const auto base = base_of(checkpoint_state(*checkpoint), *checkpoint);
  auto initial = model_with_weights(
      config, grid, folder, base ? base->folder : std::string(), "frozen weights of", {}, device);
  return {std::move(initial.model), base};
}

InitialModel first_model(const RunConfig& config,
                         const ProcessGrid& grid,
                         RunFolder& folder,
                         at::Device device) {
  return model_with_weights(config,
                            grid,
                            folder,
                            config.run.init_from,
                            "starting from the weights of",
                            config.adapter.init_from,
                            device);
}

std::size_t judged_set(const CheckpointSection& config, const PreparedData& data) {
  const auto found = std::ranges::find(data.validation, best_by(config).set, &ValidationData::name);
  return found == data.validation.end() ? 0
                                        : static_cast<std::size_t>(found - data.validation.begin());
}

Resumer::Resumer(const RunConfig& config,
                 const ProcessGrid& grid,
                 RunFolder& folder,
                 const PreparedData& data,
                 TrainingState& state)
    : config_(config),
      grid_(grid),
      folder_(folder),
      data_(data),
      state_(state),
      checkpoints_(folder.paths().checkpoints()),
      saver_(*grid.world,
             config.checkpoint.in_background,
             static_cast<int>(config.checkpoint.deflate_level)) {}

bool Resumer::start_or_resume(const ResumeFrom& from) {
  if (from.kind != ResumeFrom::Kind::kPath) {
    return resume_newest();
  }
  resume(from.path, load(from.path));
  set_later_checkpoints_aside(state_.step, "superseded");
  return true;
}

bool Resumer::resume_newest() {
  std::vector<std::string> damaged;
  std::vector<fs::path> altered;  // complete, but with other contents than were saved
  const auto complete = complete_as_rank_0_sees(&damaged);
  for (const auto& reason : damaged) {
    folder_.console().line("passing over a damaged checkpoint: " + reason);
  }
  for (const auto& folder : complete) {
    std::optional<Checkpoint> checkpoint;
    try {
      checkpoint = load(folder);
    } catch (const Error& error) {
      damaged.push_back(error.what());
      altered.push_back(folder);
      folder_.console().line(text("passing over a damaged checkpoint: ", error.what()));
      continue;
    }
    resume(folder, *checkpoint);
    grid_.world->first_alone(
        [&] {
          for (const auto& bad : altered) {  // only now that the run goes on without it
            folder_.console().line(text("set aside: ", set_aside(bad, "damaged").string()));
          }
        },
        "damaged checkpoints");
    return true;
  }
  // Starting again would overwrite what the run has reached so far.
  grid_.world->all_or_none(
      [&] {
        require(damaged.empty(),
                checkpoints_.string(),
                ": no checkpoint is whole, so the run cannot continue: ",
                damaged.empty() ? "" : damaged.front(),
                ". Start again with --resume none, or choose another run.name");
      },
      "checkpoints");
  adopt_validations();
  return false;
}

void Resumer::resume(const fs::path& folder, const Checkpoint& checkpoint) {
  const auto before = load_config<RunConfig>((folder / kConfigFile).string()).value;
  const auto model_differences = config_differences<ModelConfig>(before.model, config_.model);
  require(model_differences.empty(),
          folder.string(),
          " holds another model than the configuration: model.",
          model_differences.empty() ? "" : model_differences.front(),
          "; choose another run.name, or start again with --resume none");
  const auto adapters = adapter_difference(before.lora(), config_.lora());
  require(adapters.empty(),
          folder.string(),
          " holds other trained parameters than the configuration: ",
          adapters,
          "; choose another run.name, or start again with --resume none");
  for (const auto& difference : config_differences(before, config_)) {
    folder_.console().line("note: the configuration changed since the checkpoint: " + difference);
  }
  restore(state_, checkpoint, folder, grid_.place);
  continue_schedule(before, checkpoint);
  saved_step_ = state_.step;
  adopt_validations();
  for (const auto& note : restore_data(state_, checkpoint, folder, data_, config_, grid_.place)) {
    folder_.console().line("note: " + note);
  }
}

// How many steps the schedule spans from here on, and what that makes of the learning rate.
void Resumer::continue_schedule(const RunConfig& before, const Checkpoint& checkpoint) {
  const auto stored = checkpoint.state.find("schedule_steps");  // earlier versions had none
  const int64_t spanned = stored == checkpoint.state.end() ? before.train.max_steps.steps()
                                                           : std::get<int64_t>(stored->second);
  const int64_t max_steps = config_.train.max_steps, max_steps_before = before.train.max_steps;
  state_.schedule_steps = spanned_steps(config_.schedule, spanned, max_steps_before, max_steps);
  const int64_t applied = state_.optimizer->local().steps().all;
  if (applied == 0 || state_.step >= max_steps) {
    return;
  }
  const double last = regime_at(before, applied - 1, spanned).learning_rate,
               next = regime_at(config_, applied, state_.schedule_steps).learning_rate,
               unchanged = regime_at(before, applied, spanned).learning_rate;
  if (max_steps <= max_steps_before && next == unchanged) {
    return;
  }
  std::string why;
  if (max_steps > max_steps_before) {
    const bool stretches = config_.schedule.on_longer == OnLonger::kStretch;
    why = stretches ? text(" (schedule.on_longer is stretch: the schedule spans ",
                           max_steps,
                           " steps; with continue the rate would be ",
                           unchanged,
                           ")")
                    : text(" (schedule.on_longer is continue: the schedule spans ",
                           state_.schedule_steps,
                           " steps, and its last rate stays)");
  }
  folder_.console().line(
      text("note: the learning rate goes from ", last, " to ", next, " in the next step", why));
}

// The run goes on from an earlier step: what it had reached before must not be taken for newer.
void Resumer::set_later_checkpoints_aside(int64_t step, const char* why) {
  grid_.world->first_alone(
      [&] {
        for (const auto& folder : complete_checkpoints(checkpoints_)) {
          if (*checkpoint_step(folder) > step) {
            folder_.console().line(text("set aside: ", set_aside(folder, why).string()));
          }
        }
        link_to_best(state_.validations.steps());
      },
      "checkpoints that are set aside");
}

bool Resumer::try_rollback(double loss) {
  const auto what = text("step ",
                         state_.step,
                         ": loss ",
                         loss,
                         " spikes above its running mean ",
                         state_.spikes.mean(),
                         " +- ",
                         state_.spikes.deviation());
  if (config_.stability.spike_action == SpikeAction::kLog) {
    folder_.console().line(what);
    return false;
  }
  finish();
  const auto complete = complete_as_rank_0_sees();
  if (complete.empty()) {
    folder_.console().line(what + "; there is no checkpoint to go back to yet");
    return false;
  }
  require(state_.rollbacks < config_.stability.max_rollbacks,
          what,
          " after ",
          state_.rollbacks,
          " rollbacks (stability.max_rollbacks); try a lower optimizer.learning_rate");
  roll_back_to(complete.front(), loss);
  folder_.console().line(
      text(what, "; back to ", complete.front().string(), ", past the data that led here"));
  return true;
}

void Resumer::roll_back_to(const fs::path& folder, double loss) {
  const int64_t spiked_at = state_.step, rollbacks = state_.rollbacks + 1;
  restore(state_, load(folder), folder, grid_.place);
  best_steps_ = kept_steps_ = state_.validations.steps();
  state_.rollbacks = rollbacks;
  saved_step_ = -1;  // the position in the data is another one now
  folder_.open_metrics(state_.step);
  folder_.write_metrics(state_.step,
                        "rollback",
                        {{"from_step", static_cast<double>(spiked_at)}, {"spike_loss", loss}});
}

// Losses on other texts do not compare with what comes.
void Resumer::adopt_validations() {
  auto& validations = state_.validations;
  const auto set = [&]() -> std::string {
    if (data_.validation.empty()) {
      return {};
    }
    const auto& [name, store] = data_.validation[judged_set(config_.checkpoint, data_)];
    const bool by_accuracy = best_by(config_.checkpoint).accuracy;
    return text(
        name, name.empty() ? "" : " ", store->sources_digest(), by_accuracy ? " accuracy" : "");
  }();
  if (validations.set != set && !validations.best.empty()) {
    folder_.console().line(text("note: what is validated changed, so the best so far (after step ",
                                validations.best.front().step,
                                ") no longer counts"));
    validations = {};
  }
  validations.set = set;
  best_steps_ = kept_steps_ = validations.steps();
}

void Resumer::save() {
  if (saved_step_ == state_.step) {
    return;
  }
  finish();
  const auto pieces = checkpoint_pieces(state_, grid_.place);
  require_all_finite(pieces);
  saver_.start(checkpoints_ / checkpoint_folder_name(state_.step),
               pieces,
               checkpoint_attributes(state_, data_.texts),
               {{kConfigFile, dump_config(config_)}});
  saved_step_ = state_.step;
  best_steps_ = state_.validations.steps();
}

void Resumer::save_again() {
  saved_step_ = -1;
  save();
}

void Resumer::save_if_proven() {
  // From within a spike a run would go back to that spike, again and again.
  const bool may_spike = config_.stability.goes_back() && state_.spikes.state().above > 0;
  if (state_.skipped_in_a_row == 0 && !may_spike) {
    save();
  }
}

void Resumer::poll() {
  on_saved(saver_.poll());
  if (state_.step > saved_step_) {
    prune();
  }
}

void Resumer::finish() {
  on_saved(saver_.finish());
  prune();
}

void Resumer::require_all_finite(const std::vector<TensorPiece>& pieces) {
  std::string own;
  for (const auto& piece : pieces) {
    if (own.empty() && !is_finite(piece.value)) {
      own = piece.name;
    }
  }
  for (const auto& found : grid_.world->all_gather(own, "tensors that are not finite")) {
    if (!found.empty()) {
      const auto way = way_on(state_.step - 1);
      fail("step ", state_.step, ": ", found, " is not finite, so it is not saved. ", way);
    }
  }
}

void Resumer::on_saved(const std::optional<fs::path>& checkpoint) {
  if (!checkpoint) {
    return;
  }
  prune_due_ = true;
  kept_steps_ = best_steps_;
  folder_.console().line(text("step ",
                              *checkpoint_step(*checkpoint),
                              " | saved ",
                              checkpoint->string(),
                              ", training waited ",
                              saver_.waited_seconds(),
                              " s"));
}

void Resumer::prune() {
  if (!prune_due_ || state_.skipped_in_a_row > 0) {
    return;
  }
  prune_due_ = false;
  const auto& keep = config_.checkpoint;
  grid_.world->first_alone(
      [&] {
        link_to_best(kept_steps_);
        prune_checkpoints(checkpoints_,
                          keep.keep_last,
                          keep.keep_every_steps,
                          keep.keep_best > 0 ? kept_steps_ : std::vector<int64_t>());
      },
      "older checkpoints");
}

// A convenience: where a file system has no links, the run goes on without.
void Resumer::link_to_best(const std::vector<int64_t>& steps) {
  const bool links = config_.checkpoint.keep_best > 0 && !steps.empty();
  try {
    link_best(checkpoints_, links ? std::optional(steps.front()) : std::nullopt);
  } catch (const Error& error) {
    folder_.console().line(text("note: ", error.what()));
  }
}

std::string Resumer::way_on(int64_t newest_sound) {
  try {
    on_saved(saver_.finish());
  } catch (const Error&) {  // on every rank; what ends the run is the more important message
  }
  std::string sound;
  for (const auto& folder : complete_as_rank_0_sees()) {
    if (sound.empty() && *checkpoint_step(folder) <= newest_sound) {
      sound = folder.string();
    }
  }
  const auto command = text("braid train ", folder_.paths().config().string());
  const auto rate = text(" --set optimizer.learning_rate=", config_.optimizer.learning_rate / 10);
  if (sound.empty()) {
    return text("No checkpoint from before is there; start again with a lower rate, such as: ",
                command,
                " --resume none",
                rate);
  }
  return text("The newest sound checkpoint is ",
              sound,
              "; continue from it with a lower rate, such as: ",
              command,
              " --resume ",
              sound,
              rate);
}

std::string Resumer::leave_not_finite() {
  // The step after the last finite one began with weights that gave nothing finite.
  const int64_t newest_sound = state_.step - state_.skipped_in_a_row - 1;
  const auto way = way_on(newest_sound);
  const auto complete = complete_as_rank_0_sees();
  const bool some_are_sound = std::ranges::any_of(
      complete, [&](const fs::path& folder) { return *checkpoint_step(folder) <= newest_sound; });
  if (some_are_sound) {
    set_later_checkpoints_aside(newest_sound, "not-finite");
  }
  return way;
}

// Each rank verifies its share of the files and tensors, and all throw when one is damaged.
Checkpoint Resumer::load(const fs::path& folder) const {
  Checkpoint checkpoint;
  grid_.world->all_or_none(
      [&] {
        checkpoint = load_checkpoint(
            folder, {.part = grid_.place.rank, .parts = grid_.place.ranks, .assemble = false});
        int64_t number = 0;
        const auto check = [&](const std::string& name, const at::Tensor& value) {
          if (number++ % grid_.place.ranks == grid_.place.rank) {
            require_finite(name, value, folder.string());
          }
        };
        for (const auto& [name, value] : checkpoint.tensors) {
          check(name, value);
        }
        for (const auto& piece : checkpoint.pieces) {
          check(piece.name, piece.value);
        }
      },
      "checkpoint files");
  return checkpoint;
}

// Newest first, as rank 0 sees them; rank 0 also says which are not complete.
std::vector<fs::path> Resumer::complete_as_rank_0_sees(std::vector<std::string>* damaged) const {
  std::string names;
  if (grid_.place.rank == 0) {
    for (const auto& folder : complete_checkpoints(checkpoints_, damaged)) {
      names += folder.filename().string() + "\n";
    }
  }
  std::istringstream lines(grid_.world->from_first(names, "the checkpoints there are"));
  std::vector<fs::path> folders;
  for (std::string name; std::getline(lines, name);) {
    folders.push_back(checkpoints_ / name);
  }
  return folders;
}

}  // namespace braid
