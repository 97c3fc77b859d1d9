#pragma once
// The tokenizer of a model that Braid converted: config.json has no place for it.
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

/// What a user names: a kind ("bytes"), such a file, or a folder that has one or is a run.
TokenizerConfig tokenizer_named(const std::string& name);

}  // namespace braid
