#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "model/config.h"

namespace braid {

/// What generating one token of one sequence takes behind a context of so many tokens (it
/// included). Operations as plan/flops.h counts them, the MTP block not counted. The KV cache is
/// what the release stores: entries and raw keys in FP8 but for their rotary channels in bfloat16,
/// the indexer's keys in FP4; scales are not counted.
struct DecodeCost {
  double flops = 0;
  /// The same in equivalents of FP8: the indexer's scores, in FP4, count half, those of attention,
  /// in bfloat16, twice.
  double fp8_flops = 0;
  double cache_bytes = 0;
};
DecodeCost decode_cost(const ModelConfig& config, int64_t context);

/// The same of a model of the shape of DeepSeek-V3.2 (its config.json; arXiv:2512.02556): 61 layers
/// of multi-head latent attention with absorbed projections over the 2048 tokens that an indexer in
/// FP8 chooses among all; its cache has the latent in FP8, the rotary key in bfloat16 and the
/// indexer's key in FP8.
DecodeCost v32_decode_cost(int64_t context);

/// By context from 1K tokens on, in powers of two, up to max_position_embeddings: for readable().
nlohmann::ordered_json decode_costs(const ModelConfig& config);

}  // namespace braid
