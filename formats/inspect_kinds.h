#pragma once
// What inspect() can look at, a pair of functions each: one returns what the thing holds, and
// throws Error for a damaged one; the other checks every file.
#include <filesystem>

#include <nlohmann/json.hpp>

#include "model/config.h"
#include "run/config.h"
#include "run/verification.h"

namespace braid {

nlohmann::ordered_json run_facts(const std::filesystem::path& path);
void verify_run(const std::filesystem::path& path, Verification& verification);

nlohmann::ordered_json checkpoint_facts(const std::filesystem::path& path);
void verify_checkpoint(const std::filesystem::path& path, Verification& verification);

nlohmann::ordered_json token_store_facts(const std::filesystem::path& path);
void verify_token_store(const std::filesystem::path& path, Verification& verification);

nlohmann::ordered_json safetensors_facts(const std::filesystem::path& path);
void verify_safetensors(const std::filesystem::path& path, Verification& verification);

/// A configuration in a few lines.
nlohmann::ordered_json summary(const ModelConfig& config);
nlohmann::ordered_json summary(const RunConfig& config);

}  // namespace braid
