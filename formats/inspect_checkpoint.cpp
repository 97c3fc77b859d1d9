#include <algorithm>
#include <map>
#include <set>

#include <ATen/ATen.h>

#include "checkpoint/dtype.h"
#include "checkpoint/hdf5.h"
#include "checkpoint/manifest.h"
#include "core/error.h"
#include "core/file.h"
#include "core/parameter_names.h"
#include "formats/inspect_kinds.h"
#include "formats/model_json.h"
#include "formats/open_model.h"
#include "formats/tensor_table.h"
#include "model/transformer.h"
#include "run/run_folder.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

constexpr const char* kJson = "config.json";

nlohmann::ordered_json state_facts(const Hdf5Attributes& state) {
  nlohmann::ordered_json result;
  for (const auto& [name, value] : state) {
    std::visit([&result, &key = name](const auto& v) { result[key] = v; }, value);
  }
  return result;
}

void require_as_recorded(const fs::path& folder, const FileRecord& record) {
  const auto path = folder / record.name;
  require(fs::exists(path), path.string(), ": is missing");
  require(fs::file_size(path) == record.size,
          path.string(),
          ": has ",
          fs::file_size(path),
          " bytes, COMPLETE says ",
          record.size);
  require(xxh3_128_of_file(path) == record.digest,
          path.string(),
          ": differs from what was saved (its digest is not the one in COMPLETE)");
}

// The index has every tensor of the shards and no other.
void require_index_of_shards(const fs::path& folder,
                             const std::vector<FileRecord>& records,
                             const std::vector<std::string>& indexed) {
  std::set<std::string> stored;
  for (const auto& record : records) {
    if (record.name != kIndexFile && record.name.ends_with(".h5")) {
      const auto shard = Hdf5File::open(folder / record.name);
      for (const auto& name : shard.tensor_names()) {
        stored.insert(shard.describe_piece(name).name);
      }
    }
  }
  for (const auto& name : indexed) {
    require(stored.erase(name) == 1, "tensor '", name, "' is in no shard");
  }
  require(stored.empty(),
          "lacks ",
          stored.size(),
          " tensors of the shards, among them '",
          stored.empty() ? "" : *stored.begin(),
          "'");
}

// The model is the one that config.yaml or config.json describes; where it has a base, that one
// holds what is missing.
void require_tensors_of_model(const ModelConfig& config,
                              const std::optional<LoraConfig>& lora,
                              bool has_base,
                              const std::map<std::string, std::vector<int64_t>>& shapes) {
  const WithoutValues without_values;
  const Transformer model(config, at::kFloat, /*seed=*/0, nullptr, {}, at::kCPU, lora);
  for (const auto& [name, value] : model.parameters().tensors()) {
    const auto found = shapes.find(name);
    if (found == shapes.end() && has_base && !is_adapter(name)) {
      continue;
    }
    require(found != shapes.end(), "lacks '", name, "' of the model that it describes");
    require(at::IntArrayRef(found->second) == value.sizes(),
            "'",
            name,
            "' has shape ",
            at::IntArrayRef(found->second),
            ", its configuration says ",
            value.sizes());
  }
}

void check_contents(const fs::path& folder, const std::vector<FileRecord>& records) {
  const auto index = Hdf5File::open(folder / kIndexFile);
  const auto names = index.tensor_names();
  require_index_of_shards(folder, records, names);
  Checkpoint described;  // without values
  for (const auto& name : names) {
    const auto value = index.read_tensor(name);
    require_finite(name, value);
    described.tensors.push_back({name, value.to(at::kMeta)});
  }
  const auto shapes =
      shapes_of(stored_weights(weights_in(described), /*mapped=*/false, folder.string()));
  if (fs::exists(folder / kJson)) {
    auto config = read_model_json(folder / kJson);
    const bool has_mtp =
        std::ranges::any_of(shapes, [](const auto& entry) { return is_mtp(entry.first); });
    config.num_nextn_predict_layers *= has_mtp;  // Hugging Face's models name it and lack it
    require_tensors_of_model(config, /*lora=*/{}, /*has_base=*/false, shapes);
  } else if (fs::exists(folder / kConfigFile)) {
    const auto run = load_run_config((folder / kConfigFile).string(), {});
    require_tensors_of_model(
        run.model, run.lora(), base_of(index.read_attributes("state"), folder).has_value(), shapes);
  }
}

}  // namespace

nlohmann::ordered_json checkpoint_facts(const fs::path& path) {
  // HDF5 does not validate what it reads: it must never open a damaged file.
  const auto records = check_manifest(path, Check::kDigests);
  const auto index = Hdf5File::open(path / kIndexFile);
  nlohmann::ordered_json facts = {{"format_version", kCheckpointVersion},
                                  {"state", state_facts(index.read_attributes("state"))}};
  if (fs::exists(path / kConfigFile)) {
    facts.update(summary(load_run_config((path / kConfigFile).string(), {})));
  }
  auto files = nlohmann::ordered_json::array();
  for (const auto& record : records) {
    files.push_back({{"file", record.name}, {"bytes", record.size}});
  }
  facts["files"] = files;
  TensorTable table;
  for (const auto& name : index.tensor_names()) {
    const auto value = index.describe_tensor(name);
    table.add(name,
              dtype_name(value.scalar_type()),
              value.sizes(),
              value.numel() * static_cast<int64_t>(value.element_size()));
  }
  facts["tensors"] = table.rows();
  facts["totals"] = {{{"part", "model"}}, {{"part", "optimizer"}}};
  facts["totals"][0].update(table.totals("model/"));
  facts["totals"][1].update(table.totals("optimizer/"));
  return facts;
}

void verify_checkpoint(const fs::path& path, Verification& verification) {
  std::vector<FileRecord> records;
  if (!verification.check(path / kManifestFile, [&] { records = read_manifest(path); })) {
    return;  // nothing says what the other files should be
  }
  // The index last: it is opened only when everything it refers to is sound.
  std::stable_partition(records.begin(), records.end(), [](const FileRecord& record) {
    return record.name != kIndexFile;
  });
  bool sound = true;
  for (const auto& record : records) {
    const bool good = verification.check(path / record.name, [&] {
      require_as_recorded(path, record);
      if (record.name == kIndexFile && sound) {
        check_contents(path, records);
      }
    });
    sound = sound && good;
  }
  for (const auto& entry : fs::directory_iterator(path)) {
    const auto name = entry.path().filename().string();
    const bool known = name == kManifestFile ||
                       std::any_of(records.begin(), records.end(), [&name](const auto& record) {
                         return record.name == name;
                       });
    if (!known) {
      verification.check(entry.path(),
                         [] { fail("COMPLETE does not name it, so nothing can be said of it"); });
    }
  }
}

}  // namespace braid
