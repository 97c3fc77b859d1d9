#include "train/open_model.h"

#include <ATen/ATen.h>

#include "checkpoint/history.h"
#include "checkpoint/names.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/store.h"
#include "core/error.h"
#include "train/config.h"
#include "train/model_json.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

StoredModel read_safetensors_folder(const fs::path& folder) {
  auto config = read_model_json(folder / "config.json");
  const SafetensorsFile file(folder);
  const auto renamed = release_tensors(file.views());
  require(renamed.unknown.empty(),
          folder.string(),
          ": tensor '",
          renamed.unknown.empty() ? "" : renamed.unknown[0],
          "' has no place in a DeepSeek-V4 model (",
          renamed.unknown.size(),
          " such names)");
  bool has_mtp = false;
  for (const auto& [name, value] : renamed.tensors) {
    has_mtp = has_mtp || name.starts_with("mtp.");
    require(value.is_floating_point() || value.scalar_type() == at::kLong ||
                value.scalar_type() == at::kInt,
            folder.string(),
            ": tensor ",
            name,
            " is stored as ",
            value.scalar_type(),
            "; quantised checkpoints cannot be read yet");
  }
  if (!has_mtp) {
    config.num_nextn_predict_layers = 0;  // Hugging Face drops the block but keeps the key
  }
  return {std::move(config), renamed.tensors, std::nullopt, folder.string()};
}

StoredModel read_checkpoint(const fs::path& folder) {
  const auto checkpoint = load_checkpoint(folder);  // first: it checks config.yaml's digest too
  const auto config = load_run_config((folder / "config.yaml").string(), {});
  return {config.model, weights_in(checkpoint), config.tokenizer.kind, folder.string()};
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

OpenedModel open_model(const fs::path& path, at::ScalarType compute) {
  const auto stored = read_model(path);
  OpenedModel opened;
  opened.model = std::make_unique<Transformer>(stored.config, compute, /*seed=*/0);
  opened.model->parameters().load(stored.weights, stored.source);
  opened.tokenizer = stored.tokenizer ? make_tokenizer(*stored.tokenizer) : nullptr;
  opened.source = stored.source;
  return opened;
}

StoredModel read_model(const fs::path& path) {
  require(fs::is_directory(path),
          path.string(),
          ": no such folder; a MODEL is a run, a checkpoint, or a folder with ",
          "config.json and safetensors");
  if (fs::exists(path / "config.json")) {
    return read_safetensors_folder(path);
  }
  if (fs::exists(path / "COMPLETE")) {
    return read_checkpoint(path);
  }
  if (fs::is_directory(path / "checkpoints")) {
    std::vector<std::string> skipped;
    const auto newest = newest_complete_checkpoint(path / "checkpoints", &skipped);
    require(newest.has_value(),
            path.string(),
            ": the run has no complete checkpoint yet",
            skipped.empty() ? "" : " (" + skipped.front() + ")");
    return read_checkpoint(*newest);
  }
  fail(
      path.string(),
      ": is no model: found neither checkpoints/ (a run), COMPLETE (a checkpoint) nor config.json");
}

}  // namespace braid
