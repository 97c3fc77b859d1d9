#pragma once
#include <filesystem>

#include <nlohmann/json.hpp>

#include "run/verification.h"

namespace braid {

struct Inspection {
  nlohmann::ordered_json facts;       ///< what it is and holds; with "kind" and "path"
  std::vector<FileVerdict> verdicts;  ///< one a file, when verified
};

/// What a run, a checkpoint, a token store, or a safetensors file or folder holds. `verify` reads
/// every byte there is to check. Throws Error for a path that is none of these and, unless
/// verified, for one that is damaged; damaged files are never reported as sound.
Inspection inspect(const std::filesystem::path& path, bool verify);

}  // namespace braid
