#pragma once
// The tensors of a DSpark drafter, which guesses several tokens ahead from the streams of some
// decoder layers. Braid carries them along; it makes them for checkpoints with random weights.
#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "checkpoint/release_layout.h"
#include "model/config.h"

namespace braid {

/// Of `blocks` blocks beside this model (at least one): a window layer each, in the first what
/// reads the decoder, in the last the Markov and the confidence head.
std::vector<StoredTensor> drafter_tensors(const ModelConfig& config,
                                          int64_t blocks,
                                          ReleaseLayout layout);

/// Adds to a config.json of this model what says that the drafter is there.
void add_drafter_keys(const ModelConfig& config, int64_t blocks, nlohmann::ordered_json& json);

}  // namespace braid
