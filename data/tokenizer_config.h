#pragma once
#include <string>

namespace braid {

/// Which tokenizer; in YAML its name or file alone, or {file: bytes}. make_tokenizer()
/// (data/tokenizer.h) reads it.
struct TokenizerConfig {
  static constexpr const char* kScalarKey = "file";
  static constexpr const char* kBytes = "bytes";
  std::string file = kBytes;
  bool operator==(const TokenizerConfig&) const = default;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("file",
      &TokenizerConfig::file,
      "bytes = one id per byte (vocabulary 320); else a tokenizer.json, or a folder that has one");
  }
};

}  // namespace braid
