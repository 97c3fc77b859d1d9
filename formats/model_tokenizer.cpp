#include "formats/model_tokenizer.h"

#include "core/config.h"
#include "core/error.h"
#include "core/file.h"
#include "run/config.h"
#include "run/run_folder.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

TokenizerConfig read_tokenizer_file(const fs::path& file) {
  return parse_config<TokenizerFile>(read_file(file), file.string()).tokenizer;
}

}  // namespace

std::optional<TokenizerConfig> tokenizer_in(const fs::path& folder) {
  if (const auto file = folder / kTokenizerFile; fs::exists(file)) {
    return read_tokenizer_file(file);
  }
  if (fs::exists(folder / "tokenizer.json")) {
    return TokenizerConfig{.file = folder.string()};
  }
  return std::nullopt;
}

TokenizerConfig tokenizer_named(const std::string& name) {
  const fs::path path(name);
  if (!fs::exists(path) || path.extension() == ".json") {
    return {.file = name};
  }
  if (!fs::is_directory(path)) {
    return read_tokenizer_file(path);
  }
  if (const auto beside = tokenizer_in(path)) {
    return *beside;
  }
  const auto run = path / kConfigFile;
  require(fs::exists(run),
          name,
          ": names no tokenizer; found none of ",
          kTokenizerFile,
          ", tokenizer.json and ",
          kConfigFile);
  return load_run_config(run.string(), {}).tokenizer;
}

}  // namespace braid
