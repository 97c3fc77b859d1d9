#pragma once
#include <string>

namespace braid {

/// Which tokenizer; in YAML its kind alone, or {kind: bytes}. make_tokenizer() (data/tokenizer.h)
/// reads it.
struct TokenizerConfig {
  static constexpr const char* kScalarKey = "kind";
  std::string kind = "bytes";
  std::string path = {};  ///< of a tokenizer.json; not read yet
  bool operator==(const TokenizerConfig&) const = default;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("kind", &TokenizerConfig::kind, "bytes = one id per byte (vocabulary 320)");
    v("path", &TokenizerConfig::path, "reserved for a tokenizer.json, which is not read yet");
  }
};

}  // namespace braid
