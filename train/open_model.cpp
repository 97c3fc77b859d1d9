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

OpenedModel open_safetensors_folder(const fs::path& folder, at::ScalarType compute) {
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
  OpenedModel opened;
  opened.model = std::make_unique<Transformer>(config, compute, /*seed=*/0);
  opened.model->parameters().load(renamed.tensors, folder.string());
  opened.source = folder.string();
  return opened;
}

OpenedModel open_checkpoint(const fs::path& folder, at::ScalarType compute) {
  const auto checkpoint = load_checkpoint(folder);  // first: it checks config.yaml's digest too
  const auto config = load_run_config((folder / "config.yaml").string(), {});
  std::vector<NamedTensor> weights;
  for (const auto& [name, value] : checkpoint.tensors) {
    if (name.starts_with("model/")) {
      weights.push_back({name.substr(6), value});
    }
  }
  OpenedModel opened;
  opened.model = std::make_unique<Transformer>(config.model, compute, /*seed=*/0);
  opened.model->parameters().load(weights, folder.string());
  opened.tokenizer = make_tokenizer(config.tokenizer.kind);
  opened.source = folder.string();
  return opened;
}

}  // namespace

OpenedModel open_model(const fs::path& path, at::ScalarType compute) {
  require(fs::is_directory(path),
          path.string(),
          ": no such folder; a MODEL is a run, a checkpoint, or a folder with ",
          "config.json and safetensors");
  if (fs::exists(path / "config.json")) {
    return open_safetensors_folder(path, compute);
  }
  if (fs::exists(path / "COMPLETE")) {
    return open_checkpoint(path, compute);
  }
  if (fs::is_directory(path / "checkpoints")) {
    std::vector<std::string> skipped;
    const auto newest = newest_complete_checkpoint(path / "checkpoints", &skipped);
    require(newest.has_value(),
            path.string(),
            ": the run has no complete checkpoint yet",
            skipped.empty() ? "" : " (" + skipped.front() + ")");
    return open_checkpoint(*newest, compute);
  }
  fail(
      path.string(),
      ": is no model: found neither checkpoints/ (a run), COMPLETE (a checkpoint) nor config.json");
}

}  // namespace braid
