#pragma once
// Folders of published models in miniature, to be damaged.
#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "checkpoint/safetensors.h"
#include "core/file.h"
#include "formats/synthesize.h"
#include "tests/commands/cli_test.h"

namespace braid::testing {

class ModelFolders : public CliTest {
 protected:
  /// The tiny model with experts that FP4 can store.
  static ModelConfig quantizable_model() {
    auto model = tiny_model();
    model.hidden_size = model.moe_intermediate_size = 32;
    return model;
  }

  /// A quantized release with bytes in all experts.
  std::filesystem::path release(const std::string& name,
                                const ModelConfig& model = quantizable_model(),
                                std::size_t shard_bytes = 5'000'000) const {
    const auto path = folder_ / name;
    synthesize_release(
        path,
        model,
        {.expert_layers = {0, 1, 2}, .seed = 5, .shard_bytes = shard_bytes, .progress = {}});
    return path;
  }

  template <class Change>
  static void edit_config(const std::filesystem::path& folder, Change change) {
    auto json = nlohmann::ordered_json::parse(read_file(folder / "config.json"));
    change(json);
    write_file_atomically(folder / "config.json", json.dump(1));
  }

  /// Sets one key of config.json to a JSON value.
  static void set_key(const std::filesystem::path& folder,
                      const std::string& key,
                      const std::string& value) {
    edit_config(folder, [&](auto& json) { json[key] = nlohmann::ordered_json::parse(value); });
  }

  Outcome generate(const std::string& model, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"generate", model, "--prompt", "ab", "--max-tokens", "3"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return braid(arguments);
  }

  void expect_converted(const std::string& source,
                        const std::string& target,
                        const std::string& to,
                        const std::vector<std::string>& said = {}) const {
    const auto outcome = braid({"convert", source, target, "--to", to});
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    expect_mentions(outcome.out, said);
  }
};

}  // namespace braid::testing
