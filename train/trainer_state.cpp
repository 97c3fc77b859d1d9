// What a run keeps on disk: its folder, its data, and saving and resuming.
#include <map>
#include <sstream>
#include <thread>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "checkpoint/history.h"
#include "checkpoint/store.h"
#include "core/file.h"
#include "optim/group_table.h"
#include "train/trainer.h"

namespace braid {

namespace fs = std::filesystem;

// One training process per folder: two would overwrite each other's checkpoints.
class Trainer::FolderLock {
 public:
  explicit FolderLock(const fs::path& folder)
      : descriptor_(open((folder / ".lock").c_str(), O_CREAT | O_RDWR, 0644)) {
    require(descriptor_ >= 0, folder.string(), ": cannot be written");
    if (flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      close(descriptor_);
      fail(folder.string(),
           ": another process is training in this run; wait for it or choose another run.name");
    }
  }
  ~FolderLock() { close(descriptor_); }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int descriptor_;
};

namespace {

Checkpoint load_undamaged(const fs::path& folder) {
  try {
    return load_checkpoint(folder);
  } catch (const Error& error) {
    fail(error.what(),
         ". Move ",
         folder.string(),
         " away, and the run continues from the checkpoint before it");
  }
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

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> result;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    result.push_back(line.substr(line.find_first_not_of(' ')));
  }
  return result;
}

// "was A, is B" for each line in which two resolved configurations differ.
template <class Config>
std::vector<std::string> differences(const Config& before, const Config& now) {
  const auto old_lines = lines_of(dump_config(before)), new_lines = lines_of(dump_config(now));
  std::vector<std::string> result;
  for (std::size_t i = 0; i < std::max(old_lines.size(), new_lines.size()); ++i) {
    const auto was = i < old_lines.size() ? old_lines[i] : "",
               is = i < new_lines.size() ? new_lines[i] : "";
    if (was != is) {
      result.push_back(text("was '", was, "', is '", is, "'"));
    }
  }
  return result;
}

}  // namespace

Trainer::Trainer(const RunConfig& config) : config_(config) {
  const auto folder = config_.run_dir();
  std::error_code error;
  fs::create_directories(folder, error);
  require(!error, folder.string(), ": cannot be made: ", error.message());
  lock_ = std::make_unique<FolderLock>(folder);
  console_ = std::make_unique<Console>(folder / "log.txt");
  const int64_t cores = std::max(1u, std::thread::hardware_concurrency());
  at::set_num_threads(static_cast<int>(config_.train.threads > 0 ? config_.train.threads : cores));

  tokenizer_ = make_tokenizer(config_.tokenizer.kind);
  data_ = prepare_data(config_.data, *tokenizer_, folder);
  model_ = std::make_unique<Transformer>(
      config_.model, scalar_type(config_.train.dtype), static_cast<uint64_t>(config_.run.seed));
  std::vector<NamedTensor> trained;
  for (const auto& parameter : model_->parameters().all()) {
    if (parameter.trained) {
      trained.push_back({parameter.name, parameter.value});
    }
  }
  const GroupingFacts facts{.num_heads = config_.model.num_attention_heads,
                            .num_output_groups = config_.model.o_groups};
  optimizer_ = std::make_unique<Optimizer>(config_.optimizer,
                                           group_parameters(trained, facts, config_.optimizer));
  const StreamOptions order{.seed = static_cast<uint64_t>(config_.run.seed),
                            .pack_window = config_.data.pack_window};
  loader_ = std::make_unique<BackgroundLoader>(Loader(data_.sources(), order));
  const bool resumed = resume();
  metrics_ = std::make_unique<Metrics>(folder / "metrics.jsonl", step_);
  write_file_atomically(folder / "config.yaml", dump_config(config_));
  describe();
  if (resumed) {
    console_->line(text("continuing after step ", step_));
  }
}

Trainer::~Trainer() = default;

void Trainer::describe() const {
  int64_t parameters = 0;
  for (const auto& parameter : model_->parameters().all()) {
    parameters += parameter.value.is_floating_point() ? parameter.value.numel() : 0;
  }
  console_->line(text("run ", config_.run_dir().string(), ", ", at::get_num_threads(), " threads"));
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

void Trainer::save() {
  Checkpoint checkpoint;
  checkpoint.tensors = checkpoint_tensors();
  checkpoint.state = {{"step", step_},
                      {"tokens", tokens_},
                      {"samples", loader_->progress().samples},
                      {"text_bytes", loader_->progress().bytes},
                      {"data_position", dump_config(loader_->state())},
                      {"data_texts", to_yaml(data_.texts)},
                      {"optimizer_steps", optimizer_->steps()},
                      {"skipped_in_a_row", skipped_in_a_row_}};
  const auto root = config_.run_dir() / "checkpoints";
  fs::create_directories(root);
  save_checkpoint(
      root / checkpoint_folder_name(step_), checkpoint, {{"config.yaml", dump_config(config_)}});
  prune_checkpoints(root, config_.checkpoint.keep_last);
  saved_step_ = step_;
  console_->line(
      text("step ", step_, " | saved ", (root / checkpoint_folder_name(step_)).string()));
}

bool Trainer::resume() {
  const auto root = config_.run_dir() / "checkpoints";
  if (fs::exists(root)) {
    remove_leftovers(root);  // also restores a checkpoint that was about to be replaced
  }
  std::vector<std::string> skipped;
  const auto found = newest_complete_checkpoint(root, &skipped);
  // Starting again would overwrite what the run has reached so far.
  require(found || skipped.empty(),
          root.string(),
          ": no checkpoint is whole, so the run cannot continue: ",
          skipped.empty() ? "" : skipped.front(),
          ". Choose another run.name, or remove the folder to start again");
  for (const auto& reason : skipped) {
    console_->line("passing over a damaged checkpoint: " + reason);
  }
  if (!found) {
    return false;
  }
  const auto checkpoint = load_undamaged(*found);
  const auto before = load_config<RunConfig>((*found / "config.yaml").string()).value;
  const auto model_differences = differences(before.model, config_.model);
  require(model_differences.empty(),
          found->string(),
          " holds another model than the configuration: ",
          model_differences.empty() ? "" : model_differences.front(),
          "; choose another run.name, or remove the folder to start again");
  for (const auto& difference : differences(before, config_)) {
    console_->line("note: the configuration changed since the checkpoint: " + difference);
  }

  std::vector<NamedTensor> weights;
  std::map<std::string, at::Tensor> optimizer_state;
  for (const auto& [name, value] : checkpoint.tensors) {
    if (name.starts_with("model/")) {
      weights.push_back({name.substr(6), value});
    } else {
      optimizer_state[name] = value;
    }
  }
  model_->parameters().load(weights, found->string());
  for (const auto& [name, value] : unstacked(optimizer_->state())) {
    const auto stored = optimizer_state.find("optimizer/" + name);
    require(stored != optimizer_state.end() && stored->second.sizes() == value.sizes(),
            found->string(),
            ": no optimiser state '",
            name,
            "' of shape ",
            value.sizes(),
            "; optimizer.groups must stay as they were while a run continues");
    value.copy_(stored->second);
  }
  step_ = saved_step_ = state_value<int64_t>(checkpoint.state, "step", *found);
  tokens_ = state_value<int64_t>(checkpoint.state, "tokens", *found);
  skipped_in_a_row_ = state_value<int64_t>(checkpoint.state, "skipped_in_a_row", *found);
  optimizer_->set_steps(state_value<int64_t>(checkpoint.state, "optimizer_steps", *found));
  resume_data(checkpoint, *found);
  return true;
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

}  // namespace braid
