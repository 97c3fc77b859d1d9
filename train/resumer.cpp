#include "train/resumer.h"

#include <algorithm>
#include <sstream>

#include "checkpoint/history.h"
#include "formats/open_model.h"
#include "run/grouped_parameters.h"

namespace braid {

namespace fs = std::filesystem;

InitialModel initial_model(const RunConfig& config,
                           const ProcessGrid& grid,
                           RunFolder& folder,
                           const ResumeFrom& from) {
  const auto dtype = scalar_type(config.train.dtype);
  const auto seed = static_cast<uint64_t>(config.run.seed);
  const ModelRanks ranks{
      .experts = {.group = grid.place.expert_size > 1 ? grid.experts.get() : nullptr,
                  .waves = config.parallel.expert_waves},
      .context = {grid.place.context_size > 1 ? grid.context.get() : nullptr}};
  const auto checkpoint = from.kind == ResumeFrom::Kind::kPath
                              ? std::optional(from.path)
                              : newest_complete_checkpoint(folder.paths().checkpoints());
  auto base = checkpoint ? base_of(checkpoint_state(*checkpoint), *checkpoint) : std::nullopt;
  const auto source = base ? base->folder : checkpoint ? std::string() : config.run.init_from;
  if (source.empty()) {
    return {std::make_unique<Transformer>(config.model, dtype, seed, nullptr, ranks), {}};
  }
  auto stored = read_model(source);
  configure(stored, config.model);
  for (const auto& note : stored.notes) {
    folder.console().line("note: " + note);
  }
  if (stored.draws_mtp) {
    folder.console().line("note: the MTP block starts from random values, for " + stored.source +
                          " has none");
  }
  folder.console().line((checkpoint ? "frozen weights of " : "starting from the weights of ") +
                        stored.source);
  const auto frozen = frozen_parameters(config);
  const auto is_frozen = [&](const std::string& name) {  // of experts, this rank's stack
    return frozen.contains(is_stack(name) ? stack_from(name, 0) : name);
  };
  auto model = model_of(stored, dtype, seed, is_frozen, ranks);
  if (!base && std::ranges::any_of(model->parameters().all(), &Parameter::in_base)) {
    base = base_at(stored.base);
    folder.console().line("frozen weights stay in " + base->folder +
                          ": checkpoints of this run need that folder");
  }
  return {std::move(model), base};
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
  set_later_checkpoints_aside();
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
  for (const auto& difference : config_differences(before, config_)) {
    folder_.console().line("note: the configuration changed since the checkpoint: " + difference);
  }
  restore(state_, checkpoint, folder, grid_.place);
  saved_step_ = state_.step;
  for (const auto& note : restore_data(state_, checkpoint, folder, data_)) {
    folder_.console().line("note: " + note);
  }
}

// The run goes on from an earlier step: what it had reached before must not be taken for newer.
void Resumer::set_later_checkpoints_aside() {
  grid_.world->first_alone(
      [&] {
        for (const auto& folder : complete_checkpoints(checkpoints_)) {
          if (*checkpoint_step(folder) > state_.step) {
            folder_.console().line(text("set aside: ", set_aside(folder, "superseded").string()));
          }
        }
      },
      "superseded checkpoints");
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
  state_.rollbacks = rollbacks;
  saved_step_ = state_.step;
  folder_.open_metrics(state_.step);
  folder_.write_metrics(state_.step,
                        "rollback",
                        {{"from_step", static_cast<double>(spiked_at)}, {"spike_loss", loss}});
}

void Resumer::save() {
  if (saved_step_ == state_.step) {
    return;
  }
  finish();
  saver_.start(checkpoints_ / checkpoint_folder_name(state_.step),
               checkpoint_pieces(state_, grid_.place),
               checkpoint_attributes(state_, data_.texts),
               {{kConfigFile, dump_config(config_)}});
  saved_step_ = state_.step;
}

void Resumer::on_saved(const std::optional<fs::path>& checkpoint) {
  if (!checkpoint || grid_.place.rank != 0) {
    return;
  }
  prune_checkpoints(
      checkpoints_, config_.checkpoint.keep_last, config_.checkpoint.keep_every_steps);
  folder_.console().line(text("step ",
                              *checkpoint_step(*checkpoint),
                              " | saved ",
                              checkpoint->string(),
                              ", training waited ",
                              saver_.waited_seconds(),
                              " s"));
}

// Each rank verifies its share of the files, and all throw when one is damaged.
Checkpoint Resumer::load(const fs::path& folder) const {
  Checkpoint checkpoint;
  grid_.world->all_or_none(
      [&] {
        checkpoint = load_checkpoint(
            folder, {.part = grid_.place.rank, .parts = grid_.place.ranks, .assemble = false});
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
