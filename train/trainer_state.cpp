// What a run keeps on disk: its folder, its data, and saving and resuming.
#include <algorithm>
#include <iostream>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <thread>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include "checkpoint/history.h"
#include "checkpoint/store.h"
#include "core/file.h"
#include "formats/open_model.h"
#include "parallel/mpi_world.h"
#include "run/grouped_parameters.h"
#include "run/memory.h"
#include "train/trainer.h"
namespace braid {

namespace fs = std::filesystem;

namespace {

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  require(!error, folder.string(), ": cannot be made: ", error.message());
}

// The lock and the token stores stay: they are no one's progress.
void move_earlier_run_aside(const fs::path& folder) {
  if (!fs::exists(folder / "metrics.jsonl") && !fs::exists(folder / "checkpoints")) {
    return;
  }
  fs::path name;
  for (int i = 1; name.empty() || fs::exists(name); ++i) {
    name = text(folder.string(), ".before-", i);
  }
  fs::create_directory(name);
  for (const char* part : {"checkpoints", "metrics.jsonl", "config.yaml", "log.txt"}) {
    if (fs::exists(folder / part)) {
      fs::rename(folder / part, name / part);
    }
  }
  std::cout << "the earlier run is now " << name.string() << std::endl;
}

template <class T>
T state_value(const Hdf5Attributes& state, const std::string& key, const fs::path& checkpoint) {
  const auto found = state.find(key);
  require(found != state.end() && std::holds_alternative<T>(found->second),
          checkpoint.string(),
          ": its state has no usable '",
          key,
          "'; it was not written by this version of braid train");
  return std::get<T>(found->second);
}

}  // namespace

Trainer::Trainer(const RunConfig& config,
                 const ResumeFrom& from,
                 std::unique_ptr<Communicator> ranks)
    : config_(config),
      grid_(std::move(ranks), config.place_of(ranks->rank(), ranks->size())),
      saver_(*grid_.world,
             config.checkpoint.in_background,
             static_cast<int>(config.checkpoint.deflate_level)),
      spikes_(config.stability) {
  const auto folder = config_.run_dir();
  auto& world = *grid_.world;
  console_ = std::make_unique<Console>();
  world.first_alone(
      [&] {
        make_folder(folder);
        // Two processes would overwrite each other's checkpoints.
        lock_ = std::make_unique<FolderLock>(
            folder,
            "another process is training in this run; wait for it or choose another run.name");
        if (from.kind == ResumeFrom::Kind::kNone) {
          move_earlier_run_aside(folder);
        }
        console_ = std::make_unique<Console>(folder / "log.txt", !MpiWorld::was_launched());
        if (fs::exists(checkpoints())) {
          remove_leftovers(checkpoints());  // also restores one that was about to be replaced
        }
      },
      "the run's folder");
  set_threads();
  TensorMemory::watch();

  tokenizer_ = make_tokenizer(config_.tokenizer);
  const DataPaths paths{folder / "data", folder / "validation.txt"};
  world.first_alone([&] { data_ = prepare_data(config_.data, *tokenizer_, paths); }, "the data");
  if (!is_first()) {
    data_ = prepare_data(config_.data, *tokenizer_, paths);  // opens what rank 0 has built
  }
  model_ = initial_model(from);
  optimizer_ = std::make_unique<ShardedOptimizer>(
      config_.optimizer, config_.parallel, parameter_groups(*model_, config_), grid_);
  const StreamOptions order{.seed = static_cast<uint64_t>(config_.run.seed),
                            .pack_window = config_.data.pack_window};
  loader_ = std::make_unique<BackgroundLoader>(Loader(data_.sources(), order));
  const bool resumed = take_up(from);
  world.first_alone(
      [&] {
        metrics_ = std::make_unique<Metrics>(folder / "metrics.jsonl", step_);
        write_file_atomically(folder / "config.yaml", dump_config(config_));
      },
      "metrics.jsonl");
  describe();
  if (resumed) {
    console_->line(text("continuing after step ", step_));
  }
}

// Ranks on one machine share its cores.
void Trainer::set_threads() const {
  int64_t threads = config_.train.threads;
  if (threads == 0) {
    const int64_t cores = std::max(1u, std::thread::hardware_concurrency());
    threads = std::max<int64_t>(1, cores / launched_as().on_this_machine);
  }
  at::set_num_threads(static_cast<int>(threads));
}

Trainer::~Trainer() = default;

// Weights of another model where the run begins, or again where its checkpoints leave frozen ones
// there.
std::unique_ptr<Transformer> Trainer::initial_model(const ResumeFrom& from) const {
  const auto dtype = scalar_type(config_.train.dtype);
  const auto seed = static_cast<uint64_t>(config_.run.seed);
  const ModelRanks ranks{
      .experts = {.group = grid_.place.expert_size > 1 ? grid_.experts.get() : nullptr,
                  .waves = config_.parallel.expert_waves},
      .context = {grid_.place.context_size > 1 ? grid_.context.get() : nullptr}};
  const auto checkpoint = from.kind == ResumeFrom::Kind::kPath
                              ? std::optional(from.path)
                              : newest_complete_checkpoint(checkpoints());
  auto source = config_.run.init_from;
  if (checkpoint) {
    source = base_of({{}, checkpoint_state(*checkpoint)}, *checkpoint);
  }
  if (source.empty()) {
    return std::make_unique<Transformer>(config_.model, dtype, seed, nullptr, ranks);
  }
  auto stored = read_model(source);
  stored.config = config_.model;
  console_->line((checkpoint ? "frozen weights of " : "starting from the weights of ") +
                 stored.source);
  return model_of(stored, dtype, seed, frozen_parameters(config_), ranks);
}

// What this rank writes: its optimizer state, and of the weights that several ranks hold each only
// once, in turn.
std::vector<TensorPiece> Trainer::checkpoint_pieces() const {
  const auto& place = grid_.place;
  std::vector<TensorPiece> result;
  std::array<int64_t, 2> written = {};  // bytes of dense weights, of experts'
  for (const auto& parameter : model_->parameters().all()) {
    if (!parameter.quantized.empty()) {
      continue;
    }
    const bool is_expert = is_stack(parameter.name);
    const int64_t among = is_expert ? place.ranks / place.expert_size : place.ranks;
    const int64_t own = is_expert ? place.replica : place.rank;
    for (const auto& tensor : unstacked({{parameter.name, parameter.value.detach()}})) {
      // By what was written before, so that every rank has about as much.
      constexpr int64_t kTurn = 1 << 22;  // bytes
      auto& before = written[is_expert];
      const bool has_rows = tensor.value.dim() > 0 && tensor.value.numel() > 0;
      if (has_rows ? before / kTurn % among == own : place.rank == 0) {
        result.push_back({"model/" + tensor.name, tensor.value, tensor.value.sizes().vec(), 0});
      }
      before += static_cast<int64_t>(tensor.value.nbytes());
    }
  }
  // Every owner group has all states: the first one writes them. Experts' states have one owner.
  for (auto& piece : optimizer_->local().state()) {
    const bool is_expert = piece.name.find(".ffn.experts.") != std::string::npos;
    if (is_expert || place.rank < optimizer_->sharding().dense.owners) {
      piece.name = "optimizer/" + piece.name;
      result.push_back(std::move(piece));
    }
  }
  return result;
}

Hdf5Attributes Trainer::state() const {
  const auto& steps = optimizer_->local().steps();
  const auto& spikes = spikes_.state();
  Hdf5Attributes state = {{"step", step_},
                          {"tokens", tokens_},
                          {"samples", loader_->progress().samples},
                          {"text_bytes", loader_->progress().bytes},
                          {"data_position", dump_config(loader_->state())},
                          {"data_texts", to_yaml(data_.texts)},
                          {"optimizer_steps", steps.all},
                          {"trunk_steps", steps.trunk},
                          {"indexer_steps", steps.indexer},
                          {"skipped", skipped_},
                          {"skipped_in_a_row", skipped_in_a_row_},
                          {"rollbacks", rollbacks_},
                          {"loss_mean", spikes.mean},
                          {"loss_variance", spikes.variance},
                          {"loss_steps", spikes.steps},
                          {"loss_steps_above", spikes.above}};
  const bool has_base = std::ranges::any_of(model_->parameters().all(), [](const auto& parameter) {
    return !parameter.quantized.empty();
  });
  if (has_base) {
    const auto base = fs::absolute(config_.run.init_from);
    state["base_model"] = base.string();
    state["base_fingerprint"] = fingerprint_of(base);
  }
  return state;
}

void Trainer::save() {
  const auto folder = checkpoints() / checkpoint_folder_name(step_);
  saved(saver_.finish());
  saver_.start(folder, checkpoint_pieces(), state(), {{"config.yaml", dump_config(config_)}});
  saved_step_ = step_;
}

// A save was completed.
void Trainer::saved(const std::optional<fs::path>& folder) {
  if (!folder || !is_first()) {
    return;
  }
  prune_checkpoints(
      checkpoints(), config_.checkpoint.keep_last, config_.checkpoint.keep_every_steps);
  console_->line(text("step ",
                      *checkpoint_step(*folder),
                      " | saved ",
                      folder->string(),
                      ", training waited ",
                      saver_.held_up_seconds(),
                      " s"));
}

// Newest first, as rank 0 sees them.
std::vector<fs::path> Trainer::checkpoints_to_try(std::vector<std::string>& damaged) const {
  std::string names;
  if (is_first()) {
    for (const auto& folder : complete_checkpoints(checkpoints(), &damaged)) {
      names += folder.filename().string() + "\n";
    }
  }
  std::istringstream lines(grid_.world->from_first(names, "the checkpoints there are"));
  std::vector<fs::path> folders;
  for (std::string name; std::getline(lines, name);) {
    folders.push_back(checkpoints() / name);
  }
  return folders;
}

// Each rank verifies its share of the files, and all throw when one is damaged.
Checkpoint Trainer::load(const fs::path& folder) const {
  Checkpoint checkpoint;
  grid_.world->all_or_none(
      [&] {
        checkpoint = load_checkpoint(
            folder, {.part = grid_.place.rank, .parts = grid_.place.ranks, .assemble = false});
      },
      "checkpoint files");
  return checkpoint;
}

bool Trainer::take_up(const ResumeFrom& from) {
  if (from.kind == ResumeFrom::Kind::kPath) {
    resume(from.path, load(from.path));
    // The run goes on from here: what it had reached on another way must not be taken for newer.
    grid_.world->first_alone(
        [&] {
          for (const auto& folder : complete_checkpoints(checkpoints())) {
            if (*checkpoint_step(folder) > step_) {
              console_->line(text("set aside: ", set_aside(folder, "superseded").string()));
            }
          }
        },
        "superseded checkpoints");
    return true;
  }
  std::vector<std::string> damaged;
  std::vector<fs::path> altered;
  const auto complete = checkpoints_to_try(damaged);
  for (const auto& reason : damaged) {
    console_->line("passing over a damaged checkpoint: " + reason);
  }
  for (const auto& folder : complete) {
    std::optional<Checkpoint> checkpoint;
    try {
      checkpoint = load(folder);
    } catch (const Error& error) {
      damaged.push_back(error.what());
      altered.push_back(folder);
      console_->line(text("passing over a damaged checkpoint: ", error.what()));
      continue;
    }
    resume(folder, *checkpoint);
    grid_.world->first_alone(
        [&] {
          for (const auto& bad : altered) {  // not before there is a way on without it
            console_->line(text("set aside: ", set_aside(bad, "damaged").string()));
          }
        },
        "damaged checkpoints");
    return true;
  }
  // Starting again would overwrite what the run has reached so far.
  grid_.world->all_or_none(
      [&] {
        require(damaged.empty(),
                checkpoints().string(),
                ": no checkpoint is whole, so the run cannot continue: ",
                damaged.empty() ? "" : damaged.front(),
                ". Start again with --resume none, or choose another run.name");
      },
      "checkpoints");
  return false;
}

// This rank's weights; the checkpoint must hold the whole model's.
void Trainer::restore_weights(const fs::path& folder, const Checkpoint& checkpoint) {
  auto weights = weights_in(checkpoint);
  if (grid_.place.expert_size > 1) {
    std::set<std::string> held;
    for (const auto& tensor : model_->parameters().tensors()) {
      held.insert(tensor.name);
    }
    std::erase_if(weights, [&](const NamedTensor& tensor) {
      return tensor.name.find(".ffn.experts.") != std::string::npos && !held.contains(tensor.name);
    });
  }
  model_->parameters().load(weights, folder.string());
}

// Everything but the position in the data.
void Trainer::restore(const fs::path& folder, const Checkpoint& checkpoint) {
  restore_weights(folder, checkpoint);
  for (auto piece : optimizer_->local().state()) {
    const auto name = piece.name;
    piece.name = "optimizer/" + name;
    require(
        read_piece(checkpoint, piece),
        folder.string(),
        ": no optimizer state '",
        name,
        "' of shape ",
        at::IntArrayRef(piece.shape),
        "; what trains which parameter (optimizer.groups, loss.indexer_mode) must stay as it was"
        " while a run continues");
  }
  const auto number = [&](const char* key) {
    return state_value<int64_t>(checkpoint.state, key, folder);
  };
  step_ = saved_step_ = number("step");
  tokens_ = number("tokens");
  skipped_ = number("skipped");
  skipped_in_a_row_ = number("skipped_in_a_row");
  rollbacks_ = number("rollbacks");
  optimizer_->local().set_steps({.all = number("optimizer_steps"),
                                 .trunk = number("trunk_steps"),
                                 .indexer = number("indexer_steps")});
  spikes_.restore({.mean = state_value<double>(checkpoint.state, "loss_mean", folder),
                   .variance = state_value<double>(checkpoint.state, "loss_variance", folder),
                   .steps = number("loss_steps"),
                   .above = number("loss_steps_above")});
}

void Trainer::resume(const fs::path& folder, const Checkpoint& checkpoint) {
  const auto before = load_config<RunConfig>((folder / "config.yaml").string()).value;
  const auto model_differences = config_differences(before.model, config_.model);
  require(model_differences.empty(),
          folder.string(),
          " holds another model than the configuration: model.",
          model_differences.empty() ? "" : model_differences.front(),
          "; choose another run.name, or start again with --resume none");
  for (const auto& difference : config_differences(before, config_)) {
    console_->line("note: the configuration changed since the checkpoint: " + difference);
  }
  restore(folder, checkpoint);
  resume_data(checkpoint, folder);
}

void Trainer::resume_data(const Checkpoint& checkpoint, const fs::path& path) {
  const auto yaml_of = [&](const char* key) {
    return state_value<std::string>(checkpoint.state, key, path);
  };
  const auto texts = text_digests_of(yaml_of("data_texts"), path.string() + ": data_texts");
  for (const auto& change : changes_of_texts(texts, data_.texts)) {
    console_->line("note: " + change);
  }
  const auto anew = loader_->restore(
      parse_config<LoaderState>(yaml_of("data_position"), path.string() + ": data_position"));
  for (const std::size_t source : anew) {
    console_->line(text("note: ",
                        data_.training[source].name,
                        ": the order of the documents is new; it begins with epoch ",
                        loader_->state().sources[source].stream.epoch));
  }
}

// Answers a spike as configured. A rollback goes to the newest checkpoint, while the data goes on:
// what led into the spike is not seen again.
bool Trainer::rolled_back(const StepResult& spike) {
  const auto what = text("step ",
                         step_,
                         ": loss ",
                         spike.losses.cross_entropy,
                         " spikes above its running mean ",
                         spikes_.mean(),
                         " +- ",
                         spikes_.deviation());
  if (config_.stability.spike_action == SpikeAction::kLog) {
    console_->line(what);
    return false;
  }
  saved(saver_.finish());
  std::vector<std::string> damaged;
  const auto complete = checkpoints_to_try(damaged);
  if (complete.empty()) {
    console_->line(what + "; there is no checkpoint to go back to yet");
    return false;
  }
  require(rollbacks_ < config_.stability.max_rollbacks,
          what,
          " after ",
          rollbacks_,
          " rollbacks (stability.max_rollbacks); try a lower optimizer.learning_rate");
  const int64_t spiked_at = step_, rollbacks = rollbacks_ + 1;
  const double loss = spike.losses.cross_entropy;
  restore(complete.front(), load(complete.front()));
  rollbacks_ = rollbacks;
  if (is_first()) {
    metrics_ = std::make_unique<Metrics>(config_.run_dir() / "metrics.jsonl", step_);
    metrics_->write(
        step_, "rollback", {{"from_step", static_cast<double>(spiked_at)}, {"spike_loss", loss}});
  }
  console_->line(
      text(what, "; back to ", complete.front().string(), ", past the data that led here"));
  return true;
}

}  // namespace braid
