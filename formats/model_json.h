#pragma once
#include <filesystem>
#include <optional>
#include <string>

#include <c10/core/ScalarType.h>

#include "checkpoint/release_layout.h"
#include "model/config.h"

namespace braid {

/// Reads a model's config.json in the release's spelling (compress_ratios, num_hash_layers,
/// rope_scaling) or Hugging Face's in-memory one (layer_types, compress_rates, mlp_layer_types,
/// rope_parameters). Keys that do not describe the architecture are ignored. Throws Error
/// with file and key for a missing or ill-typed value, or one that asks for another architecture.
ModelConfig read_model_json(const std::filesystem::path& path);

/// The text of config.json in the release's spelling, which Hugging Face's loader takes too.
/// `quantized`: the layout of the weights beside it; `dtype`: that of those that are not quantized,
/// in which Hugging Face's loader then opens the model. Keys of the file `base` (may be empty)
/// that do not describe the architecture stay as they are. Throws Error for an architecture that
/// the format cannot express.
std::string model_json(const ModelConfig& config,
                       std::optional<ReleaseLayout> quantized,
                       const std::filesystem::path& base,
                       at::ScalarType dtype = at::kBFloat16);

}  // namespace braid
