#include "data/tokenizer.h"

#include <filesystem>

#include "core/error.h"
#include "data/bpe_tokenizer.h"
#include "data/byte_tokenizer.h"

namespace braid {

std::unique_ptr<Tokenizer> make_tokenizer(const TokenizerConfig& config) {
  if (config.file == TokenizerConfig::kBytes) {
    return std::make_unique<ByteTokenizer>();
  }
  constexpr const char* kKey = "tokenizer.file";
  if (!std::filesystem::exists(config.file)) {
    throw ConfigError(kKey,
                      text("is '",
                           config.file,
                           "', which does not exist; expected 'bytes', a tokenizer.json, or a "
                           "folder that has one"));
  }
  try {
    return read_bpe_tokenizer(config.file);
  } catch (const Error& error) {
    throw ConfigError(kKey, error.what());
  }
}

}  // namespace braid
