#include "formats/open_model.h"

#include <algorithm>
#include <set>
#include <string_view>

#include <ATen/ATen.h>

#include "checkpoint/history.h"
#include "checkpoint/names.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/store.h"
#include "core/error.h"
#include "core/file.h"
#include "core/parameter_names.h"
#include "formats/model_json.h"
#include "formats/tensor_table.h"
#include "run/run_folder.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

constexpr const char* kBaseModel = "base_model";
constexpr const char* kBaseFingerprint = "base_fingerprint";

// Hugging Face drops the MTP block but keeps the key.
ModelConfig model_json_for(const fs::path& folder, const std::vector<NamedTensor>& tensors) {
  auto config = read_model_json(folder / "config.json");
  const bool has_mtp =
      std::ranges::any_of(tensors, [](const auto& tensor) { return is_mtp(tensor.name); });
  if (!has_mtp) {
    config.num_nextn_predict_layers = 0;
  }
  return config;
}

StoredModel read_safetensors_folder(const fs::path& folder) {
  const SafetensorsFile file(folder);
  const auto renamed = release_tensors(file.views());
  require(renamed.unknown.empty(),
          folder.string(),
          ": tensor '",
          renamed.unknown.empty() ? "" : renamed.unknown[0],
          "' has no place in a DeepSeek-V4 model (",
          renamed.unknown.size(),
          " such names)");
  return {model_json_for(folder, renamed.tensors),
          stored_weights(renamed.tensors, /*mapped=*/true, folder.string()),
          std::nullopt,
          folder.string(),
          folder,
          folder.string(),
          {}};
}

// What a link beside checkpoints (`best`) names; other paths as they are.
fs::path without_link(const fs::path& path) {
  std::error_code none;
  const auto target = fs::read_symlink(path, none);
  return none || target.is_absolute() ? path : path.parent_path() / target;
}

StoredModel read_checkpoint(const fs::path& folder) {
  const auto checkpoint =
      load_checkpoint(folder);  // first, as it verifies the digest of the configuration
  const auto tensors = weights_in(checkpoint);
  auto weights = stored_weights(tensors, /*mapped=*/true, folder.string());
  if (fs::exists(folder / "config.json")) {
    return {model_json_for(folder, tensors),
            std::move(weights),
            std::nullopt,
            folder.string(),
            folder,
            folder.string(),
            {}};
  }
  const auto config = load_run_config((folder / kConfigFile).string(), {});
  StoredModel stored;
  const bool is_of_a_run = checkpoint.state.contains("data_position");
  if (!is_of_a_run) {  // converted
    stored.base = folder.string();
  }
  if (const auto base = base_of(checkpoint.state, folder)) {
    stored = read_model(base->folder);
  }
  stored.config = config.model;
  stored.tokenizer = config.tokenizer;
  stored.source = folder.string();
  for (const auto& [name, weight] : weights) {
    if (is_of_a_run) {
      stored.not_in_base.insert(name);
    }
  }
  weights.merge(stored.weights);  // adds what the checkpoint lacks
  stored.weights = std::move(weights);
  return stored;
}

// The checkpoint that `choose` names. A run that goes on beside removes its old ones: where that one
// is removed while it is read, what `choose` then names.
StoredModel read_chosen_checkpoint(const std::function<fs::path()>& choose) {
  for (fs::path last;;) {
    const auto folder = choose();
    try {
      return read_checkpoint(folder);
    } catch (const std::exception&) {
      if (fs::exists(folder / kManifestFile)) {
        throw;
      }
      require(folder != last,
              folder.string(),
              ": was removed while it was read: a run keeps only its newest checkpoints "
              "(checkpoint.keep_last). Give the run's folder to take its newest one");
      last = folder;
    }
  }
}

// All but the codes that stay in a file, which may be larger than the memory.
void require_finite_weights(const Parameters& parameters, const std::string& source) {
  for (const auto& [name, value] : parameters.tensors()) {
    require_finite(name, value, source);
  }
  for (const auto& parameter : parameters.all()) {
    for (std::size_t i = 0; i < parameter.quantized.size(); ++i) {
      const auto& weight = parameter.quantized[i];
      const auto name = is_stack(parameter.name)
                            ? name_in_stack(parameter.name, static_cast<int64_t>(i))
                            : parameter.name;
      if (!weight.mapped) {
        require_finite(scale_name(name), weight.scales.to(at::kFloat), source);
      }
    }
  }
}

}  // namespace

std::vector<NamedTensor> weights_in(const Checkpoint& checkpoint) {
  constexpr std::string_view kPrefix = "model/";
  std::vector<NamedTensor> weights;
  for (const auto& [name, value] : checkpoint.tensors) {
    if (name.starts_with(kPrefix)) {
      weights.push_back({name.substr(kPrefix.size()), value});
    }
  }
  return weights;
}

BaseModel base_at(const fs::path& folder) {
  return {fs::absolute(folder).string(), fingerprint_of(folder)};
}

std::optional<BaseModel> base_of(const Hdf5Attributes& state, const fs::path& folder) {
  const auto named = state.find(kBaseModel);
  if (named == state.end()) {
    return std::nullopt;
  }
  BaseModel base{std::get<std::string>(named->second), {}};
  require(fs::is_directory(base.folder),
          folder.string(),
          ": its frozen weights are in ",
          base.folder,
          ", which is no folder; put the base model back there (a symbolic link will do)");
  if (const auto known = state.find(kBaseFingerprint); known != state.end()) {
    base.fingerprint = std::get<std::string>(known->second);
    require(base.fingerprint == fingerprint_of(base.folder),
            folder.string(),
            ": its frozen weights were in ",
            base.folder,
            ", which now holds another model; put the one that the run began with back there");
  }
  return base;
}

void name_base(const BaseModel& base, Hdf5Attributes& state) {
  state[kBaseModel] = base.folder;
  state[kBaseFingerprint] =
      base.fingerprint.empty() ? fingerprint_of(base.folder) : base.fingerprint;
}

std::string fingerprint_of(const fs::path& folder) {
  constexpr std::size_t kHead = 1 << 20, kTail = 1 << 16;
  std::set<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors" || entry.path().extension() == ".h5") {
      files.insert(entry.path());
    }
  }
  std::string parts;
  for (const auto& path : files) {
    const MappedFile file(path);
    const std::string_view bytes(reinterpret_cast<const char*>(file.data()), file.size());
    parts +=
        text(path.filename().string(), ' ', bytes.size(), ' ', xxh3_128(bytes.substr(0, kHead)));
    parts += ' ' + xxh3_128(bytes.substr(bytes.size() - std::min(bytes.size(), kTail))) + '\n';
  }
  return xxh3_128(parts);
}

std::map<std::string, std::vector<int64_t>> shapes_of(const StoredWeights& weights) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const auto& [name, weight] : weights) {
    shapes[name] = weight.quantized() ? std::vector{weight.rows(), weight.columns()}
                                      : weight.values.sizes().vec();
  }
  return shapes;
}

std::unique_ptr<Transformer> model_of(const StoredModel& stored,
                                      at::ScalarType compute,
                                      uint64_t seed,
                                      const std::function<bool(const std::string&)>& is_frozen,
                                      const ModelRanks& ranks) {
  {
    const WithoutValues without_values;
    require_tensors_of(Transformer(stored.config, compute, seed).parameters(),
                       shapes_of(stored.weights),
                       stored.source);
  }
  const WeightSource source{
      .read = [&](const std::string& name) { return stored.weights.at(name); },
      .is_frozen = is_frozen,
      .in_base = [&](const std::string& name) { return !stored.not_in_base.contains(name); }};
  auto model = std::make_unique<Transformer>(stored.config, compute, seed, &source, ranks);
  require_finite_weights(model->parameters(), stored.source);
  return model;
}

void load_weights(const Checkpoint& checkpoint,
                  const fs::path& folder,
                  bool holds_all_experts,
                  Parameters& parameters) {
  auto weights = weights_in(checkpoint);
  std::set<std::string> given, held;
  for (const auto& weight : weights) {
    given.insert(weight.name);
  }
  constexpr const char* kAdvice =
      "; what trains which parameter (optimizer.groups, loss.indexer_mode) must stay as it was"
      " while a run continues";
  for (const auto& parameter : parameters.all()) {
    const bool quantized = !parameter.quantized.empty();
    for (const auto& [name, value] : unstacked({{parameter.name, parameter.value}})) {
      held.insert(name);
      require(!(quantized && given.contains(name)),
              folder.string(),
              ": '",
              name,
              "' was trained, but the configuration freezes it as the base model has it",
              kAdvice);
      require(quantized || parameter.in_base || given.contains(name) ||
                  !checkpoint.state.contains(kBaseModel),
              folder.string(),
              ": '",
              name,
              "' was frozen and left in the base model, but the configuration trains it",
              kAdvice);
    }
  }
  std::erase_if(weights, [&](const NamedTensor& tensor) {
    return !holds_all_experts && is_expert(tensor.name) && !held.contains(tensor.name);
  });
  parameters.load(weights, folder.string());
}

OpenedModel open_model(const fs::path& path, at::ScalarType compute, bool trainable) {
  const auto stored = read_model(path);
  OpenedModel opened;
  opened.model =
      model_of(stored, compute, /*seed=*/0, [trainable](const std::string&) { return !trainable; });
  opened.tokenizer = stored.tokenizer ? make_tokenizer(*stored.tokenizer) : nullptr;
  opened.source = stored.source;
  return opened;
}

StoredModel read_model(const fs::path& path) {
  require(fs::is_directory(path),
          path.string(),
          ": no such folder; a MODEL is a run, a checkpoint, or a folder with ",
          "config.json and safetensors");
  if (fs::exists(path / kManifestFile)) {
    return read_chosen_checkpoint([&] { return without_link(path); });
  }
  if (fs::exists(path / "config.json")) {
    return read_safetensors_folder(path);
  }
  if (const auto checkpoints = RunPaths{path}.checkpoints(); fs::is_directory(checkpoints)) {
    return read_chosen_checkpoint([&] {
      std::vector<std::string> skipped;
      const auto newest = newest_complete_checkpoint(checkpoints, &skipped);
      require(newest.has_value(),
              path.string(),
              ": the run has no complete checkpoint yet",
              skipped.empty() ? "" : " (" + skipped.front() + ")");
      return *newest;
    });
  }
  fail(
      path.string(),
      ": is no model: found neither checkpoints/ (a run), COMPLETE (a checkpoint) nor config.json");
}

}  // namespace braid
