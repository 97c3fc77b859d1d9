#include <algorithm>
#include <set>

#include <ATen/ATen.h>

#include "checkpoint/safetensors.h"
#include "checkpoint/strict_json.h"
#include "core/error.h"
#include "core/file.h"
#include "core/parameter_names.h"
#include "data/token_store.h"
#include "formats/inspect_kinds.h"
#include "formats/model_json.h"
#include "formats/release_tensors.h"
#include "formats/tensor_table.h"
#include "run/memory.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

struct ModelFiles {
  fs::path index;  // empty for a single file
  std::vector<fs::path> shards;
};

ModelFiles model_files(const fs::path& path) {
  if (!fs::is_directory(path) && path.extension() != ".json") {
    return {{}, {path}};
  }
  const auto single = path / "model.safetensors";
  if (fs::is_directory(path) && fs::exists(single)) {
    return {{}, {single}};
  }
  const auto index = fs::is_directory(path) ? path / "model.safetensors.index.json" : path;
  const auto where = index.string();
  const auto json = parse_strict_json(read_file(index), where);
  std::set<std::string> names;
  for (const auto& [tensor, shard] : json_field(json, "weight_map", where).items()) {
    require(shard.is_string(), where, ": weight_map '", tensor, "' is ", shard.dump());
    names.insert(shard.get<std::string>());
  }
  ModelFiles files{index, {}};
  for (const auto& name : names) {
    files.shards.push_back(index.parent_path() / name);
  }
  return files;
}

// Whether a quantized checkpoint is complete, by its headers.
void add_release_facts(const std::vector<StoredTensor>& expected,
                       ReleaseLayout layout,
                       const SafetensorsFile& file,
                       bool has_drafter,
                       nlohmann::ordered_json& facts) {
  facts["layout"] = layout == ReleaseLayout::kInstruct ? "release, FP4 experts (instruct)"
                                                       : "release, FP8 experts (base)";
  facts["expected_tensors"] = expected.size();
  constexpr std::size_t kShown = 5;
  auto differences = differences_from(expected, file, [has_drafter](const std::string& name) {
    return has_drafter && is_mtp(name);
  });
  if (const auto count = differences.size(); count > kShown) {
    differences.resize(kShown);
    differences.push_back(text("and ", count - kShown, " more"));
  }
  facts["differences"] =
      differences.empty() ? nlohmann::ordered_json("none") : nlohmann::ordered_json(differences);
}

std::string drafter_text(const SafetensorsFile& file) {
  std::set<std::string_view> blocks;
  int64_t tensors = 0, bytes = 0;
  for (const auto& name : file.names()) {
    if (is_mtp(name)) {
      blocks.insert(split_block(name).block);
      ++tensors;
      bytes += static_cast<int64_t>(file.bytes(name));
    }
  }
  return text("DSpark, blocks: ",
              blocks.size(),
              ", ",
              tensors,
              " tensors, ",
              bytes_text(bytes),
              ": speculative drafter, carried as it is; neither computed nor trained, and no "
              "parameters of the model");
}

}  // namespace

nlohmann::ordered_json token_store_facts(const fs::path& path) {
  const TokenStore store(path);
  const auto& trailer = store.trailer();
  char digest[17];
  std::snprintf(digest, sizeof digest, "%016llx", static_cast<unsigned long long>(trailer.digest));
  return {{"format_version", trailer.version},
          {"tokenizer", store.tokenizer_name()},
          {"vocab_size", trailer.vocab_size},
          {"documents", store.num_documents()},
          {"tokens", store.num_tokens()},
          {"targets", store.num_targets()},
          {"text_bytes", store.text_bytes()},
          {"file_bytes", fs::file_size(path)},
          {"digest", digest},
          {"sources_digest", store.sources_digest()}};
}

void verify_token_store(const fs::path& path, Verification& verification) {
  verification.check(path, [&path] { TokenStore{path}; });
}

nlohmann::ordered_json safetensors_facts(const fs::path& path) {
  const SafetensorsFile file(path);
  nlohmann::ordered_json facts;
  if (fs::is_directory(path) && fs::exists(path / "config.json")) {
    const auto json = model_json_at(path / "config.json");
    auto config = json.config;
    const bool has_mtp = std::ranges::any_of(file.names(), is_mtp);
    config.num_nextn_predict_layers *= has_mtp;  // files may lack the block that config.json names
    facts["model"] = summary(config);
    if (json.has_drafter) {
      facts["drafter"] = drafter_text(file);
    }
    if (!json.unknown_keys.empty()) {
      facts["unknown_keys"] = json.unknown_keys;
    }
    if (const auto layout = release_layout_of(file)) {
      add_release_facts(
          release_tensors_of(config, *layout), *layout, file, json.has_drafter, facts);
    }
  }
  auto files = nlohmann::ordered_json::array();
  for (const auto& shard : model_files(path).shards) {
    files.push_back({{"file", shard.filename().string()}, {"bytes", fs::file_size(shard)}});
  }
  facts["files"] = files;
  if (!file.metadata().empty()) {
    facts["metadata"] = file.metadata();
  }
  TensorTable table;
  for (const auto& name : file.names()) {
    table.add(name,
              file.dtype_text(name),
              file.shape(name),
              static_cast<int64_t>(file.bytes(name)),
              file.is_foreign(name));
  }
  facts["tensors"] = table.rows();
  facts["total"] = table.totals("");
  return facts;
}

void verify_safetensors(const fs::path& path, Verification& verification) {
  if (fs::is_directory(path) && fs::exists(path / "config.json")) {
    verification.check(path / "config.json", [&path] { read_model_json(path / "config.json"); });
  }
  ModelFiles files;
  try {
    files = model_files(path);
  } catch (const Error& error) {
    verification.check(path, [&error] { throw error; });
    return;
  }
  bool sound = true;
  for (const auto& shard : files.shards) {
    const bool good = verification.check(shard, [&shard] {
      const SafetensorsFile file(shard);
      for (const auto& [name, value] : file.views()) {
        require_finite(name, value);
      }
    });
    sound = sound && good;
  }
  if (!files.index.empty()) {
    verification.check(files.index, [&files, sound] {
      if (sound) {
        SafetensorsFile(files.index);
      }
    });
  }
}

}  // namespace braid
