#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/store.h"
#include "data/tokenizer.h"
#include "model/transformer.h"

namespace braid {

/// What a MODEL folder holds, unopened.
struct StoredModel {
  ModelConfig config;
  std::vector<NamedTensor> weights;      ///< by release name
  std::optional<std::string> tokenizer;  ///< its kind, where the folder tells
  std::string source;                    ///< the folder the weights came from
};

/// Reads a Braid run (its newest complete checkpoint), a Braid checkpoint, or a folder with
/// config.json and safetensors under Hugging Face or release names.  Throws Error that says what
/// was looked for.
StoredModel read_model(const std::filesystem::path& path);

/// The weights in a training checkpoint, by release name.
std::vector<NamedTensor> weights_in(const Checkpoint& checkpoint);

/// A MODEL as every command takes it.
struct OpenedModel {
  std::unique_ptr<Transformer> model;
  std::unique_ptr<Tokenizer> tokenizer;  ///< null where the folder says nothing about text
  std::string source;                    ///< the folder the weights came from
};

OpenedModel open_model(const std::filesystem::path& path, at::ScalarType compute);

}  // namespace braid
