#pragma once
// What a published checkpoint of a model must hold.
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/release_layout.h"
#include "checkpoint/safetensors.h"
#include "model/config.h"

namespace braid {

/// Every tensor of the release of this model, layer by layer; nothing is allocated.
std::vector<StoredTensor> release_tensors_of(const ModelConfig& config, ReleaseLayout layout);

/// The layout, by the experts' dtype; nothing where they are not quantized.
std::optional<ReleaseLayout> release_layout_of(const SafetensorsFile& file);

/// How a file differs from what is expected of it, one line for each tensor. Tensors that
/// `is_other` are not expected and no difference.
std::vector<std::string> differences_from(
    const std::vector<StoredTensor>& expected,
    const SafetensorsFile& file,
    const std::function<bool(const std::string&)>& is_other = {});

}  // namespace braid
