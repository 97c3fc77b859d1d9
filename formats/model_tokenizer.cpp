#include "formats/model_tokenizer.h"

#include <filesystem>

#include "core/config.h"
#include "core/error.h"
#include "core/file.h"
#include "run/config.h"
#include "run/run_folder.h"

namespace braid {

TokenizerConfig tokenizer_named(const std::string& name) {
  namespace fs = std::filesystem;
  const fs::path path(name);
  if (!fs::exists(path)) {
    return {.kind = name};
  }
  if (fs::is_directory(path)) {
    const auto file = path / kTokenizerFile, run = path / kConfigFile;
    require(fs::exists(file) || fs::exists(run),
            name,
            ": names no tokenizer; found neither ",
            kTokenizerFile,
            " nor ",
            kConfigFile);
    return fs::exists(file) ? tokenizer_named(file.string())
                            : load_run_config(run.string(), {}).tokenizer;
  }
  return parse_config<TokenizerFile>(read_file(path), name).tokenizer;
}

}  // namespace braid
