#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <c10/core/ScalarType.h>

#include "checkpoint/release_layout.h"
#include "model/config.h"

namespace braid {

/// What a config.json says.
struct ModelJson {
  /// Without the MTP block where the model has a DSpark drafter in its place.
  ModelConfig config;
  /// Whether mtp.* is a DSpark drafter (keys dspark_*), blocks that guess several tokens ahead.
  /// Braid carries its tensors along; it neither computes nor trains them.
  bool has_drafter = false;
  std::vector<std::string> unknown_keys;  ///< that were passed over, in the order of their names
};

/// Reads a model's config.json in the release's spelling (compress_ratios, num_hash_layers,
/// rope_scaling) or Hugging Face's in-memory one (layer_types, compress_rates, mlp_layer_types,
/// rope_parameters). Numbers have the ranges of ModelConfig. Throws Error with file and key for a
/// value that is missing, ill-typed or out of range, for two keys that contradict each other, and
/// for every known key that asks for another computation: those that Braid implements one value of,
/// anything unknown about rotary positions, another model_type or quantization.
ModelJson model_json_at(const std::filesystem::path& path);

/// Its architecture alone.
ModelConfig read_model_json(const std::filesystem::path& path);

/// The text of config.json in the release's spelling, which Hugging Face's loader takes too.
/// `quantized`: the layout of the weights beside it; `dtype`: that of those that are not quantized,
/// in which Hugging Face's loader then opens the model. Keys of the file `base` (may be empty)
/// that do not describe the architecture stay as they are; those of a DSpark drafter only where the
/// drafter comes along (`with_drafter`). Throws Error for an architecture that the format cannot
/// express.
std::string model_json(const ModelConfig& config,
                       std::optional<ReleaseLayout> quantized,
                       const std::filesystem::path& base,
                       at::ScalarType dtype = at::kBFloat16,
                       bool with_drafter = false);

/// The key that says a DSpark drafter is there.
bool is_drafter_key(std::string_view key);

}  // namespace braid
