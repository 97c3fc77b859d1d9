#include "formats/open_model.h"

#include <algorithm>
#include <set>
#include <string_view>

#include <ATen/ATen.h>

#include "checkpoint/hdf5.h"
#include "checkpoint/history.h"
#include "checkpoint/manifest.h"
#include "checkpoint/names.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/store.h"
#include "core/error.h"
#include "core/file.h"
#include "core/parameter_names.h"
#include "formats/adapters.h"
#include "formats/model_json.h"
#include "formats/model_tokenizer.h"
#include "formats/tensor_table.h"
#include "run/run_folder.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

constexpr const char* kBaseModel = "base_model";
constexpr const char* kBaseFingerprint = "base_fingerprint";

std::string range_text(const char* what, int64_t last) {
  return last < 0 ? text("no ", what) : text(what, " 0 to ", last);
}

// Too few or too many layers or experts, in one sentence instead of hundreds of names.
void require_layers_and_experts(const std::vector<NamedTensor>& tensors,
                                const ModelConfig& config,
                                const fs::path& source) {
  int64_t last_layer = -1, last_expert = -1;
  for (const auto& tensor : tensors) {
    const auto name = parsed_name(tensor.name);
    if (!name) {
      continue;
    }
    last_layer = std::max(last_layer, name->layer);
    if (!name->expert.empty() && name->layer >= 0) {
      constexpr std::size_t kDigits = 18;
      last_expert = std::max<int64_t>(last_expert, std::stoll(name->expert.substr(0, kDigits)));
    }
  }
  const auto check = [&](const char* what, int64_t last, const char* key, int64_t count) {
    require(last + 1 == count,
            source.string(),
            ": its files hold ",
            range_text(what, last),
            ", but config.json says ",
            key,
            " ",
            count,
            last + 1 < count ? "; is the download complete, and are"
                             : "; check that they belong together: are",
            " weights and config.json of the same model?");
  };
  check("layers", last_layer, "num_hidden_layers", config.num_hidden_layers);
  check("experts", last_expert, "n_routed_experts", config.n_routed_experts);
}

// Hugging Face drops the MTP block but keeps the key.
ModelJson model_json_for(const fs::path& folder, const std::vector<NamedTensor>& tensors) {
  auto json = model_json_at(folder / "config.json");
  const bool has_mtp =
      std::ranges::any_of(tensors, [](const auto& tensor) { return is_mtp(tensor.name); });
  if (!has_mtp) {
    json.config.num_nextn_predict_layers = 0;
  }
  return json;
}

void add_notes(const ModelJson& json, StoredModel& stored) {
  if (!json.unknown_keys.empty()) {
    stored.notes.push_back(text((stored.published / "config.json").string(),
                                ": keys that Braid does not know and passes over: ",
                                joined(json.unknown_keys)));
  }
  if (!stored.drafter.empty()) {
    std::set<std::string> blocks;
    for (const auto& [name, value] : stored.drafter) {
      blocks.insert(std::string(split_block(name).block));
    }
    stored.notes.push_back(text(stored.source,
                                ": has a DSpark drafter of ",
                                blocks.size(),
                                blocks.size() == 1 ? " block" : " blocks",
                                " (mtp.*), which Braid carries along and neither computes nor "
                                "trains"));
  }
}

StoredModel stored_at(const fs::path& folder,
                      const ModelJson& json,
                      const std::vector<NamedTensor>& tensors,
                      std::vector<NamedTensor> drafter) {
  require_layers_and_experts(tensors, json.config, folder);
  StoredModel stored{json.config,
                     stored_weights(tensors, /*mapped=*/true, folder.string()),
                     tokenizer_in(folder),
                     folder.string(),
                     folder,
                     folder.string(),
                     {},
                     std::move(drafter),
                     {}};
  add_notes(json, stored);
  return stored;
}

// Those that no parameter needs are passed over.
std::string foreign_tensors(const SafetensorsFile& file) {
  std::string result;
  for (const auto& name : file.names()) {
    if (file.is_foreign(name)) {
      if (names_a_tensor(name)) {
        file.view(name);  // says what is wrong
      }
      result += text(result.empty() ? "" : ", ", name, " (", file.dtype_text(name), ")");
    }
  }
  return result;
}

// What people try to open that is near to DeepSeek-V4.
std::string family_of(const std::vector<std::string>& names) {
  constexpr std::pair<const char*, const char*> kFamilies[] = {
      {"vision.", "a vision tower, as DeepSeek-V4-Flash-Vision has one"},
      {"aligner.", "a vision tower, as DeepSeek-V4-Flash-Vision has one"},
      {"image_", "a vision tower, as DeepSeek-V4-Flash-Vision has one"},
      {"bias_vl", "a router with biases for images, as DeepSeek-V4-Flash-Vision has them"},
      {"engram", "Engram tables, as DeepSeek-V4.1 has them"},
      {"weight_scale", "a repack of other codes and scales, such as NVFP4"},
      {"input_scale", "a repack of other codes and scales, such as NVFP4"},
      {"weight_packed", "a repack of other codes and scales, such as NVFP4"},
      {"qweight", "a repack of other codes, GPTQ's or AWQ's"},
      {"main_norm", "a DSpark drafter, but its config.json has no dspark_* keys"},
      {"lora_", "LoRA adapters"},
  };
  for (const auto& [part, family] : kFamilies) {
    for (const auto& name : names) {
      if (name.find(part) != std::string::npos) {
        return text("; '", name, "' looks like ", family, ", which Braid does not implement");
      }
    }
  }
  return "";
}

StoredModel read_safetensors_folder(const fs::path& folder) {
  const SafetensorsFile file(folder);
  auto views = file.views();
  const auto json = model_json_for(folder, views);
  std::vector<NamedTensor> drafter;
  if (json.has_drafter) {
    const auto first = std::stable_partition(
        views.begin(), views.end(), [](const auto& tensor) { return !is_mtp(tensor.name); });
    drafter.assign(first, views.end());
    views.erase(first, views.end());
  }
  const auto foreign = foreign_tensors(file);
  const auto renamed = release_tensors(views);
  const auto unknown = renamed.unknown.empty() ? std::string() : renamed.unknown.front();
  require(renamed.unknown.empty(),
          folder.string(),
          ": tensor '",
          unknown,
          "' has no place in a DeepSeek-V4 model (",
          renamed.unknown.size(),
          " such names)",
          family_of(renamed.unknown));
  auto stored = stored_at(folder, json, renamed.tensors, std::move(drafter));
  if (!foreign.empty()) {
    stored.notes.push_back(
        text(folder.string(), ": tensors of foreign dtypes that no layer needs: ", foreign));
  }
  return stored;
}

void remove_mtp(StoredWeights& weights) {
  std::erase_if(weights, [](const auto& entry) { return is_mtp(entry.first); });
}

// What a link beside checkpoints (`best`) names; other paths as they are.
fs::path without_link(const fs::path& path) {
  std::error_code none;
  const auto target = fs::read_symlink(path, none);
  return none || target.is_absolute() ? path : path.parent_path() / target;
}

// Whether there is a model with a drafter, as far as it still says so; its weights are not read.
bool has_drafter_at(const fs::path& path) {
  try {
    if (fs::exists(path / "config.json")) {
      return model_json_at(path / "config.json").has_drafter;
    }
    const auto checkpoint = fs::exists(path / kManifestFile)
                                ? std::optional(without_link(path))
                                : newest_complete_checkpoint(RunPaths{path}.checkpoints());
    if (!checkpoint) {
      return false;
    }
    const auto state = checkpoint_state(*checkpoint);
    const auto base = state.find(kBaseModel);
    return base != state.end() && has_drafter_at(std::get<std::string>(base->second));
  } catch (const Error&) {
    return false;
  }
}

StoredModel read_checkpoint(const fs::path& folder) {
  const auto checkpoint =
      load_checkpoint(folder);  // first, as it verifies the digest of the configuration
  const auto tensors = weights_in(checkpoint);
  if (fs::exists(folder / "config.json")) {
    return stored_at(
        folder, model_json_for(folder, tensors), tensors, tensors_in(checkpoint, kDrafter));
  }
  auto weights = stored_weights(tensors, /*mapped=*/true, folder.string());
  const auto config = load_run_config((folder / kConfigFile).string(), {});
  StoredModel stored;
  const bool is_of_a_run = checkpoint.state.contains("data_position");
  if (!is_of_a_run) {  // converted
    stored.base = folder.string();
  }
  if (const auto base = base_of(checkpoint.state, folder)) {
    stored = read_model(base->folder);
  } else if (!config.run.init_from.empty() && has_drafter_at(config.run.init_from)) {
    stored.notes.push_back(text(folder.string(),
                                ": is of a run that started from ",
                                config.run.init_from,
                                ", which has a DSpark drafter (mtp.*); the run keeps nothing in "
                                "that folder, and its drafter does not come along"));
  }
  stored.config = config.model;
  stored.lora = config.lora();
  stored.tokenizer = config.tokenizer;
  stored.source = folder.string();
  for (const auto& [name, weight] : weights) {
    if (is_of_a_run) {
      stored.not_in_base.insert(name);
    }
  }
  if (config.model.num_nextn_predict_layers == 0) {
    remove_mtp(stored.weights);  // of a base that has the block
  }
  weights.merge(stored.weights);  // adds what the checkpoint lacks
  stored.weights = std::move(weights);
  return stored;
}

// The checkpoint that `choose` names. A run that goes on beside removes its old ones: where that
// one is removed while it is read, what `choose` then names.
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

// In the order of passes, the frozen experts that a rank keeps as codes.
std::vector<ExpertLayer> coded_experts(const StoredModel& stored,
                                       const Parameters& parameters,
                                       const std::function<bool(const std::string&)>& is_frozen,
                                       int64_t ranks) {
  std::vector<ExpertLayer> layers;
  for (const auto& parameter : parameters.all()) {
    if (!is_stack(parameter.name) || !is_expert(parameter.name) || !is_frozen(parameter.name)) {
      continue;
    }
    double bytes = 0;
    for (const auto& [name, value] : unstacked({{parameter.name, parameter.value}})) {
      const auto found = stored.weights.find(name);
      if (found != stored.weights.end() && found->second.quantized()) {
        bytes += static_cast<double>(found->second.nbytes()) / static_cast<double>(ranks);
      }
    }
    const auto layer = layer_of_experts(parameter.name);
    if (bytes > 0 && (layers.empty() || layers.back().name != layer)) {
      layers.push_back({layer});
    }
    if (bytes > 0) {
      layers.back().bytes += bytes;
    }
  }
  return layers;
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
      if (!weight.mapped()) {
        require_finite(scale_name(name), weight.scales.to(at::kFloat), source);
      }
    }
  }
}

}  // namespace

std::vector<NamedTensor> tensors_in(const Checkpoint& checkpoint, std::string_view prefix) {
  std::vector<NamedTensor> tensors;
  for (const auto& [name, value] : checkpoint.tensors) {
    if (name.starts_with(prefix)) {
      tensors.push_back({name.substr(prefix.size()), value});
    }
  }
  return tensors;
}

std::vector<NamedTensor> weights_in(const Checkpoint& checkpoint) {
  return tensors_in(checkpoint, "model/");
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
                                      const ModelRanks& ranks,
                                      at::Device device,
                                      const ExpertRoom& room,
                                      bool working_copies) {
  const auto is_drawn = [&](const std::string& name) {
    return is_adapter(name) ? stored.draws_adapters : stored.draws_mtp && is_mtp(name);
  };
  std::map<std::string, WeightPlace> places;
  {
    const WithoutValues without_values;
    const Transformer empty(stored.config, compute, seed, nullptr, {}, at::kCPU, stored.lora);
    auto shapes = shapes_of(stored.weights);
    for (const auto& [name, value] : empty.parameters().tensors()) {
      if (is_drawn(name)) {
        shapes[name] = value.sizes().vec();
      }
    }
    require_tensors_of(empty.parameters(), shapes, stored.source);
    const auto experts = coded_experts(stored, empty.parameters(), is_frozen, ranks.experts.size());
    require(
        !room.resident || !experts.empty(),
        stored.source,
        ": has no frozen experts in FP4 or FP8, which alone can be elsewhere than on the device "
        "(train.resident_gb, --resident-gb); leave that out, or freeze the experts of a quantized "
        "base");
    places = places_of_experts(experts, room);
  }
  const WeightSource source{
      .read = [&](const std::string& name) { return stored.weights.at(name); },
      .is_frozen = is_frozen,
      .in_base = [&](const std::string& name) { return !stored.not_in_base.contains(name); },
      .is_drawn = is_drawn,
      .place = [&](const std::string& name) { return places.at(layer_of_experts(name)); },
      .described = stored.source};
  auto model = std::make_unique<Transformer>(
      stored.config, compute, seed, &source, ranks, device, stored.lora, working_copies);
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

std::string adapter_difference(const std::optional<LoraConfig>& before,
                               const std::optional<LoraConfig>& now) {
  if (before.has_value() != now.has_value()) {
    return before ? "there were LoRA adapters, and there are none" : "there were no LoRA adapters";
  }
  auto then = before.value_or(LoraConfig{});
  const auto other = now.value_or(LoraConfig{});
  then.dropout = other.dropout;  // of training alone
  then.init_from = other.init_from;
  const auto differences = config_differences(then, other);
  return differences.empty() ? std::string() : "adapter." + differences.front();
}

void configure(StoredModel& stored,
               const ModelConfig& config,
               const std::optional<LoraConfig>& lora) {
  require(!stored.lora || lora,
          stored.source,
          ": has LoRA adapters, and the run trains no adapters (train.parameters); a model whose "
          "weights hold them already is made by `braid merge`");
  if (stored.lora) {
    const auto difference = adapter_difference(stored.lora, lora);
    require(difference.empty(),
            stored.source,
            ": has other LoRA adapters than the configuration: ",
            difference,
            "; its adapters are trained further as they are, or first merged into its weights "
            "(`braid merge`)");
  }
  stored.draws_adapters = lora && !stored.lora;
  stored.lora = lora;
  const auto had = stored.config.num_nextn_predict_layers;
  stored.config = config;
  if (config.num_nextn_predict_layers == 0) {
    remove_mtp(stored.weights);
  }
  stored.draws_mtp = had == 0 && config.num_nextn_predict_layers > 0;
}

OpenedModel open_model(const fs::path& path,
                       at::ScalarType compute,
                       bool trainable,
                       const AdapterFolders& adapters,
                       at::Device device,
                       const ExpertRoom& room) {
  auto stored = read_model(path);
  add_adapters(stored, adapters);
  OpenedModel opened;
  const auto is_frozen = [trainable](const std::string&) { return !trainable; };
  opened.model = model_of(stored, compute, /*seed=*/0, is_frozen, /*ranks=*/{}, device, room);
  opened.tokenizer = stored.tokenizer;
  opened.source = stored.source;
  opened.notes = stored.notes;
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

StoredArchitecture architecture_of(const fs::path& path) {
  require(fs::is_directory(path),
          path.string(),
          ": no such folder; expected a run, a checkpoint, or a folder with config.json and "
          "safetensors");
  const auto json = path / "config.json";
  if (fs::exists(path / kManifestFile)) {
    if (!fs::exists(json)) {
      return {load_run_config((path / kConfigFile).string(), {}).model, path / kConfigFile};
    }
    std::vector<NamedTensor> names;
    for (const auto& tensor : Hdf5File::open(path / kIndexFile).tensor_names()) {
      names.push_back({fs::path(tensor).filename().string(), {}});
    }
    return {model_json_for(path, names).config, json};
  }
  if (fs::exists(json)) {
    const SafetensorsFile file(path);
    std::vector<NamedTensor> names;
    for (const auto& tensor : file.names()) {
      names.push_back({tensor, {}});
    }
    return {model_json_for(path, names).config, json};
  }
  const auto newest = newest_complete_checkpoint(RunPaths{path}.checkpoints());
  require(newest.has_value(), path.string(), ": holds no model that a run could start from");
  return {load_run_config((*newest / kConfigFile).string(), {}).model, *newest / kConfigFile};
}

}  // namespace braid
