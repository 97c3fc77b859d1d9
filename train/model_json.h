#pragma once
#include <filesystem>

#include "model/config.h"

namespace braid {

/// Reads a model's config.json in the release's spelling (compress_ratios, num_hash_layers,
/// rope_scaling) or Hugging Face's in-memory one (layer_types, compress_rates, mlp_layer_types,
/// rope_parameters).  Keys that do not describe the architecture are passed over.  Throws Error
/// with file and key for a missing or ill-typed value, or one that asks for another architecture.
ModelConfig read_model_json(const std::filesystem::path& path);

}  // namespace braid
