// What a run keeps on disk: its folder, its data, and saving and resuming.
#include <algorithm>
#include <iostream>
#include <map>
#include <optional>
#include <thread>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include "checkpoint/history.h"
#include "checkpoint/store.h"
#include "core/file.h"
#include "train/groups.h"
#include "train/memory.h"
#include "train/open_model.h"
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

Trainer::Trainer(const RunConfig& config, const ResumeFrom& from)
    : config_(config), spikes_(config.stability) {
  const auto folder = config_.run_dir();
  make_folder(folder);
  // Two processes would overwrite each other's checkpoints.
  lock_ = std::make_unique<FolderLock>(
      folder, "another process is training in this run; wait for it or choose another run.name");
  if (from.kind == ResumeFrom::Kind::kNone) {
    move_earlier_run_aside(folder);
  }
  console_ = std::make_unique<Console>(folder / "log.txt");
  const int64_t cores = std::max(1u, std::thread::hardware_concurrency());
  at::set_num_threads(static_cast<int>(config_.train.threads > 0 ? config_.train.threads : cores));
  TensorMemory::watch();

  tokenizer_ = make_tokenizer(config_.tokenizer.kind);
  data_ = prepare_data(config_.data, *tokenizer_, folder);
  model_ = initial_model(from);
  optimizer_ = std::make_unique<Optimizer>(config_.optimizer, parameter_groups(*model_, config_));
  const StreamOptions order{.seed = static_cast<uint64_t>(config_.run.seed),
                            .pack_window = config_.data.pack_window};
  loader_ = std::make_unique<BackgroundLoader>(Loader(data_.sources(), order));
  const bool resumed = take_up(from);
  metrics_ = std::make_unique<Metrics>(folder / "metrics.jsonl", step_);
  write_file_atomically(folder / "config.yaml", dump_config(config_));
  describe();
  if (resumed) {
    console_->line(text("continuing after step ", step_));
  }
}

Trainer::~Trainer() = default;

// Weights of another model where the run begins, or again where its checkpoints leave frozen ones
// there.
std::unique_ptr<Transformer> Trainer::initial_model(const ResumeFrom& from) const {
  const auto dtype = scalar_type(config_.train.dtype);
  const auto seed = static_cast<uint64_t>(config_.run.seed);
  const auto checkpoint = from.kind == ResumeFrom::Kind::kPath
                              ? std::optional(from.path)
                              : newest_complete_checkpoint(checkpoints());
  auto source = config_.run.init_from;
  if (checkpoint) {
    source = base_of({{}, checkpoint_state(*checkpoint)}, *checkpoint);
  }
  if (source.empty()) {
    return std::make_unique<Transformer>(config_.model, dtype, seed);
  }
  auto stored = read_model(source);
  stored.config = config_.model;
  console_->line((checkpoint ? "frozen weights of " : "starting from the weights of ") +
                 stored.source);
  return model_of(stored, dtype, seed, frozen_parameters(config_));
}

std::vector<NamedTensor> Trainer::checkpoint_tensors() const {
  std::vector<NamedTensor> result;
  for (const auto& [name, value] : model_->parameters().tensors()) {
    result.push_back({"model/" + name, value});
  }
  for (const auto& [name, value] : unstacked(optimizer_->state())) {
    result.push_back({"optimizer/" + name, value});
  }
  return result;
}

Hdf5Attributes Trainer::state() const {
  const auto& steps = optimizer_->steps();
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
    return !parameter.quantised.empty();
  });
  if (has_base) {
    const auto base = fs::absolute(config_.run.init_from);
    state["base_model"] = base.string();
    state["base_fingerprint"] = fingerprint_of(base);
  }
  return state;
}

void Trainer::save() {
  fs::create_directories(checkpoints());
  const auto folder = checkpoints() / checkpoint_folder_name(step_);
  save_checkpoint(folder, {checkpoint_tensors(), state()}, {{"config.yaml", dump_config(config_)}});
  prune_checkpoints(
      checkpoints(), config_.checkpoint.keep_last, config_.checkpoint.keep_every_steps);
  saved_step_ = step_;
  console_->line(text("step ", step_, " | saved ", folder.string()));
}

bool Trainer::take_up(const ResumeFrom& from) {
  if (fs::exists(checkpoints())) {
    remove_leftovers(checkpoints());  // also restores a checkpoint that was about to be replaced
  }
  if (from.kind == ResumeFrom::Kind::kPath) {
    const auto checkpoint = load_checkpoint(from.path);
    resume(from.path, checkpoint);
    // The run goes on from here: what it had reached on another way must not be taken for newer.
    for (const auto& folder : complete_checkpoints(checkpoints())) {
      if (*checkpoint_step(folder) > step_) {
        console_->line(text("set aside: ", set_aside(folder, "superseded").string()));
      }
    }
    return true;
  }
  std::vector<std::string> damaged;
  std::vector<fs::path> altered;
  const auto complete = complete_checkpoints(checkpoints(), &damaged);
  for (const auto& reason : damaged) {
    console_->line("passing over a damaged checkpoint: " + reason);
  }
  for (const auto& folder : complete) {
    std::optional<Checkpoint> checkpoint;
    try {
      checkpoint = load_checkpoint(folder);
    } catch (const Error& error) {
      damaged.push_back(error.what());
      altered.push_back(folder);
      console_->line(text("passing over a damaged checkpoint: ", error.what()));
      continue;
    }
    resume(folder, *checkpoint);
    for (const auto& bad : altered) {  // not before there is a way on without it
      console_->line(text("set aside: ", set_aside(bad, "damaged").string()));
    }
    return true;
  }
  // Starting again would overwrite what the run has reached so far.
  require(damaged.empty(),
          checkpoints().string(),
          ": no checkpoint is whole, so the run cannot continue: ",
          damaged.empty() ? "" : damaged.front(),
          ". Start again with --resume none, or choose another run.name");
  return false;
}

// Everything but the position in the data.
void Trainer::restore(const fs::path& folder, const Checkpoint& checkpoint) {
  model_->parameters().load(weights_in(checkpoint), folder.string());
  std::map<std::string, at::Tensor> stored_tensors;
  for (const auto& [name, value] : checkpoint.tensors) {
    stored_tensors[name] = value;
  }
  for (const auto& [name, value] : unstacked(optimizer_->state())) {
    const auto stored = stored_tensors.find("optimizer/" + name);
    require(
        stored != stored_tensors.end() && stored->second.sizes() == value.sizes(),
        folder.string(),
        ": no optimiser state '",
        name,
        "' of shape ",
        value.sizes(),
        "; what trains which parameter (optimizer.groups, loss.indexer_mode) must stay as it was"
        " while a run continues");
    value.copy_(stored->second);
  }
  const auto number = [&](const char* key) {
    return state_value<int64_t>(checkpoint.state, key, folder);
  };
  step_ = saved_step_ = number("step");
  tokens_ = number("tokens");
  skipped_ = number("skipped");
  skipped_in_a_row_ = number("skipped_in_a_row");
  rollbacks_ = number("rollbacks");
  optimizer_->set_steps({.all = number("optimizer_steps"),
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
  const auto newest = newest_complete_checkpoint(checkpoints());
  if (!newest) {
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
  restore(*newest, load_checkpoint(*newest));
  rollbacks_ = rollbacks;
  metrics_ = std::make_unique<Metrics>(config_.run_dir() / "metrics.jsonl", step_);
  metrics_->write(
      step_, "rollback", {{"from_step", static_cast<double>(spiked_at)}, {"spike_loss", loss}});
  console_->line(text(what, "; back to ", newest->string(), ", past the data that led here"));
  return true;
}

}  // namespace braid
