#pragma once
// The tokenizer that lies beside a model's config.json, which has no place for it.
#include <filesystem>
#include <optional>
#include <string>

#include "data/tokenizer_config.h"

namespace braid {

/// Beside config.json; the section of a run's YAML: "tokenizer: bytes".
inline constexpr const char* kTokenizerFile = "braid_tokenizer.yaml";

struct TokenizerFile {
  TokenizerConfig tokenizer;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("tokenizer", &TokenizerFile::tokenizer, "text to ids");
  }
};

/// That of a published or converted model: kTokenizerFile, else tokenizer.json; nothing where the
/// folder has neither.
std::optional<TokenizerConfig> tokenizer_in(const std::filesystem::path& folder);

/// What a user names: "bytes", a tokenizer.json, a kTokenizerFile, or a folder that has one of them
/// or is a run.
TokenizerConfig tokenizer_named(const std::string& name);

}  // namespace braid
