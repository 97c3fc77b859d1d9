#include "formats/inspect.h"

#include <array>
#include <fstream>

#include "checkpoint/store.h"
#include "core/error.h"
#include "data/token_store.h"
#include "formats/inspect_kinds.h"
#include "run/run_folder.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

struct Kind {
  const char* name;
  nlohmann::ordered_json (*facts)(const fs::path&);
  void (*verify)(const fs::path&, Verification&);
};
constexpr Kind kRun = {"run", run_facts, verify_run};
constexpr Kind kCheckpoint = {"checkpoint", checkpoint_facts, verify_checkpoint};
constexpr Kind kTokenStore = {"token store", token_store_facts, verify_token_store};
constexpr Kind kSafetensors = {"safetensors", safetensors_facts, verify_safetensors};

bool begins_as_token_store(const fs::path& file) {
  std::array<char, TokenStore::kMagic.size()> bytes = {};
  std::ifstream(file, std::ios::binary).read(bytes.data(), bytes.size());
  return std::string_view(bytes.data(), bytes.size()) == TokenStore::kMagic;
}

Kind kind_of(const fs::path& path) {
  require(fs::exists(path), path.string(), ": no such file or folder");
  const auto has = [&path](const char* name) { return fs::exists(path / name); };
  if (fs::is_directory(path)) {
    if (has(kManifestFile) || has(kIndexFile)) {
      return kCheckpoint;
    }
    if (RunPaths{path}.has_progress()) {
      return kRun;
    }
    if (has("config.json") || has("model.safetensors") || has("model.safetensors.index.json")) {
      return kSafetensors;
    }
    fail(path.string(),
         ": nothing to inspect: found neither COMPLETE or index.h5 (a checkpoint), checkpoints/ or "
         "metrics.jsonl (a run) nor config.json or model.safetensors (a model)");
  }
  if (path.extension() == ".tokens" || begins_as_token_store(path)) {
    return kTokenStore;
  }
  require(
      path.extension() == ".safetensors" ||
          path.filename().string().ends_with(".safetensors.index.json"),
      path.string(),
      ": nothing to inspect: expected a token store, *.safetensors, *.safetensors.index.json, or "
      "the folder of a run, a checkpoint or a model");
  return kSafetensors;
}

}  // namespace

Inspection inspect(const fs::path& path, bool verify) {
  const auto kind = kind_of(path);
  Inspection result;
  result.facts = {{"kind", kind.name}, {"path", path.string()}};
  bool sound = true;
  if (verify) {
    Verification verification(path);
    kind.verify(path, verification);
    result.verdicts = verification.verdicts();
    sound = verification.sound();
  }
  try {
    result.facts.update(kind.facts(path));
  } catch (const Error&) {
    if (sound) {
      throw;
    }  // else the verdicts tell
  }
  return result;
}

}  // namespace braid
