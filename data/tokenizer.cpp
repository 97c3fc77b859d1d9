#include "data/tokenizer.h"

#include "core/error.h"
#include "data/byte_tokenizer.h"

namespace braid {

std::unique_ptr<Tokenizer> make_tokenizer(const std::string& kind) {
  if (kind == "bytes") {
    return std::make_unique<ByteTokenizer>();
  }
  throw ConfigError("tokenizer.kind", text("'", kind, "' is not a known tokenizer; use 'bytes'"));
}

}  // namespace braid
