#include "plan/decode_cost.h"

#include <algorithm>
#include <cmath>

#include "plan/flops.h"

namespace braid {
namespace {

double sum_of(const ForwardProducts& products) {
  return products.attention + products.attention_scores + products.compressor + products.indexer +
         products.indexer_scores + products.router + products.routed_experts +
         products.shared_experts + products.mhc + products.head;
}

// Products, of which those of attention's and the indexer's scores are known apart, as operations.
DecodeCost cost_of(double products,
                   double attention_scores,
                   double indexer_scores,
                   double indexer_factor) {
  const double others = products - attention_scores - indexer_scores;
  return {.flops = 2 * products,
          .fp8_flops = 2 * (others + 2 * attention_scores + indexer_factor * indexer_scores)};
}

double cache_bytes(const ModelConfig& config, int64_t context) {
  const auto rope = static_cast<double>(config.qk_rope_head_dim);
  const double key = static_cast<double>(config.head_dim) - rope + 2 * rope,
               index_key = static_cast<double>(config.index_head_dim) / 2;
  double bytes = 0;
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const auto layer = config.layer(i);
    const int64_t raw = std::min(context, layer.window.value_or(context));
    bytes += key * static_cast<double>(raw);
    if (layer.compresses()) {
      const auto entries = static_cast<double>(context / layer.ratio);
      bytes += entries * (key + (layer.attention == AttentionKind::kCsa ? index_key : 0));
    }
  }
  return bytes;
}

}  // namespace

// The last token of a sequence is what the whole of it costs more than all but that token.
DecodeCost decode_cost(const ModelConfig& config, int64_t context) {
  const auto with = forward_products(config, context),
             without = forward_products(config, context - 1);
  auto cost = cost_of(sum_of(with) - sum_of(without),
                      with.attention_scores - without.attention_scores,
                      with.indexer_scores - without.indexer_scores,
                      /*indexer_factor=*/0.5);
  cost.cache_bytes = cache_bytes(config, context);
  return cost;
}

DecodeCost v32_decode_cost(int64_t context) {
  constexpr double kLayers = 61, kDenseLayers = 3, kHidden = 7168, kVocab = 129280;
  constexpr double kHeads = 128, kNope = 128, kRope = 64, kValue = 128, kQueryRank = 1536,
                   kLatent = 512;
  constexpr double kIndexHeads = 64, kIndexHead = 128, kTopk = 2048;
  constexpr double kDense = 18432, kExpert = 2048, kExperts = 256, kPicks = 8, kShared = 1;
  const auto tokens = static_cast<double>(context);
  const double projections = kHidden * kQueryRank + kQueryRank * kHeads * (kNope + kRope) +
                             kHidden * (kLatent + kRope) + kHeads * kLatent * (kNope + kValue) +
                             kHeads * kValue * kHidden;
  const double scores = kHeads * std::min(tokens, kTopk) * (kLatent + kRope + kLatent);
  const double indexer =
      kQueryRank * kIndexHeads * kIndexHead + kHidden * kIndexHead + kHidden * kIndexHeads;
  const double indexer_scores = kIndexHeads * kIndexHead * tokens;
  const double experts = kHidden * kExperts + (kPicks + kShared) * 3 * kHidden * kExpert;
  const double products = kLayers * (projections + scores + indexer + indexer_scores) +
                          kDenseLayers * 3 * kHidden * kDense + (kLayers - kDenseLayers) * experts +
                          kHidden * kVocab;
  auto cost = cost_of(products, kLayers * scores, kLayers * indexer_scores, /*indexer_factor=*/1);
  cost.cache_bytes = kLayers * tokens * (kLatent + 2 * kRope + kIndexHead);
  return cost;
}

nlohmann::ordered_json decode_costs(const ModelConfig& config) {
  const auto percent = [](double own, double other) { return std::round(1000 * own / other) / 10; };
  auto rows = nlohmann::ordered_json::array();
  for (int64_t context = 1024; context <= config.max_position_embeddings; context *= 2) {
    const auto own = decode_cost(config, context), v32 = v32_decode_cost(context);
    rows.push_back({{"context", context},
                    {"flops", own.flops},
                    {"fp8_flops", own.fp8_flops},
                    {"percent_of_v32", percent(own.fp8_flops, v32.fp8_flops)},
                    {"cache_bytes", own.cache_bytes},
                    {"cache_percent_of_v32", percent(own.cache_bytes, v32.cache_bytes)}});
  }
  return {{"decode_per_token", rows}};
}

}  // namespace braid
