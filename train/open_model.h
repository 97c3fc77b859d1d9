#pragma once
#include <filesystem>
#include <memory>
#include <string>

#include "data/tokenizer.h"
#include "model/transformer.h"

namespace braid {

/// A MODEL as every command takes it.
struct OpenedModel {
  std::unique_ptr<Transformer> model;
  std::unique_ptr<Tokenizer> tokenizer;  ///< null where the folder says nothing about text
  std::string source;                    ///< the folder the weights came from
};

/// Opens a Braid run (its newest complete checkpoint), a Braid checkpoint, or a folder with
/// config.json and safetensors under Hugging Face or release names.  Throws Error that says what
/// was looked for.
OpenedModel open_model(const std::filesystem::path& path, at::ScalarType compute);

}  // namespace braid
