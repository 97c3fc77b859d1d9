#include "data/tokenizer.h"

#include "core/error.h"
#include "data/byte_tokenizer.h"

namespace braid {

std::unique_ptr<Tokenizer> make_tokenizer(const TokenizerConfig& config) {
  if (!config.path.empty()) {
    throw ConfigError("tokenizer.path",
                      text("is '",
                           config.path,
                           "', but tokenizer files cannot be read yet; leave it out and use "
                           "tokenizer.kind 'bytes'"));
  }
  if (config.kind == "bytes") {
    return std::make_unique<ByteTokenizer>();
  }
  throw ConfigError("tokenizer.kind",
                    text("'", config.kind, "' is not a known tokenizer; use 'bytes'"));
}

}  // namespace braid
