#include "model/config.h"

#include <algorithm>

#include "kernels/codec.h"

namespace braid {
namespace {

constexpr int64_t kReleaseCsaRatio = 4;

AttentionKind kind_of_ratio(int64_t ratio) {
  if (ratio == 0) {
    return AttentionKind::kWindow;
  }
  return ratio == kReleaseCsaRatio ? AttentionKind::kCsa : AttentionKind::kHca;
}

std::optional<int64_t> window_of(AttentionKind kind, const ModelConfig& config) {
  return kind == AttentionKind::kFull ? std::nullopt : std::optional(config.sliding_window);
}

// Sizes whose products leave 64 bits, before anything multiplies them. None of the released models
// comes near.
void check_sizes(const ModelConfig& config, const std::string& prefix) {
  constexpr int64_t kWidest = int64_t{1} << 24, kMostLayers = 10'000, kMostStreams = 1024;
  constexpr double kMostParameters = 1e15;
  const auto require_at_most = [&](const char* key, int64_t value, int64_t most) {
    if (value > most) {
      throw ConfigError(prefix + "." + key, text("is ", value, "; at most ", most, " is possible"));
    }
  };
  for (const auto& [key, value] : {std::pair{"vocab_size", config.vocab_size},
                                   {"hidden_size", config.hidden_size},
                                   {"num_attention_heads", config.num_attention_heads},
                                   {"head_dim", config.head_dim},
                                   {"q_lora_rank", config.q_lora_rank},
                                   {"o_lora_rank", config.o_lora_rank},
                                   {"index_n_heads", config.index_n_heads},
                                   {"index_head_dim", config.index_head_dim},
                                   {"n_routed_experts", config.n_routed_experts},
                                   {"moe_intermediate_size", config.moe_intermediate_size}}) {
    require_at_most(key, value, kWidest);
  }
  require_at_most("num_hidden_layers", config.num_hidden_layers, kMostLayers);
  require_at_most("hc_mult", config.hc_mult, kMostStreams);
  const auto times = [](auto... sizes) { return (1.0 * ... * static_cast<double>(sizes)); };
  const auto& c = config;
  // The largest tensors, and where each is named most plainly.
  for (const auto& [key, elements] :
       {std::pair{"vocab_size", times(c.vocab_size, c.hidden_size)},
        {"moe_intermediate_size",
         times(c.n_routed_experts, c.moe_intermediate_size, c.hidden_size)},
        {"head_dim", times(c.num_attention_heads, c.head_dim, c.q_lora_rank)},
        {"o_lora_rank", times(c.o_lora_rank, c.num_attention_heads, c.head_dim)},
        {"o_groups", times(c.o_groups, c.o_lora_rank, c.hidden_size)},
        {"index_head_dim", times(c.index_n_heads, c.index_head_dim, c.q_lora_rank)},
        {"hc_mult", times(c.hc_mult, c.hc_mult + 2, c.hc_mult, c.hidden_size)}}) {
    if (elements > kMostParameters) {
      throw ConfigError(prefix + "." + key,
                        text("makes one tensor of ",
                             elements,
                             " parameters with the other sizes; at most ",
                             kMostParameters,
                             " are possible"));
    }
  }
}

}  // namespace

LayerConfig ModelConfig::layer(int64_t layer) const {
  const auto index = static_cast<std::size_t>(layer);
  LayerConfig result;
  result.ratio = compress_ratios.empty() ? 0 : compress_ratios.at(index);
  result.attention = layer_types.empty() ? kind_of_ratio(result.ratio) : layer_types.at(index);
  if (!result.compresses()) {
    result.ratio = 0;
  }
  result.window = window_of(result.attention, *this);
  const auto by_count = layer < num_hash_layers ? RoutingKind::kHash : RoutingKind::kLearned;
  result.routing = routing.empty() ? by_count : routing.at(index);
  return result;
}

LayerConfig ModelConfig::mtp_layer() const {
  const bool all_full = std::all_of(layer_types.begin(), layer_types.end(), [](AttentionKind kind) {
    return kind == AttentionKind::kFull;
  });
  LayerConfig result;
  result.attention =
      !layer_types.empty() && all_full ? AttentionKind::kFull : AttentionKind::kWindow;
  result.window = window_of(result.attention, *this);
  return result;
}

void ModelConfig::validate(const std::string& prefix) const {
  const auto check = [&](bool good, const char* key, const auto&... message) {
    if (!good) {
      throw ConfigError(prefix + "." + key, text(message...));
    }
  };
  check_sizes(*this, prefix);
  const auto L = static_cast<std::size_t>(num_hidden_layers);
  const auto expected = text("expected ", L, " entries (num_hidden_layers)");

  check(layer_types.empty() || layer_types.size() == L,
        "layer_types",
        expected,
        ", got ",
        layer_types.size());
  check(routing.empty() || routing.size() == L, "routing", expected, ", got ", routing.size());
  check(
      !compress_ratios.empty() || !layer_types.empty(), "compress_ratios", expected, ", got none");
  check(compress_ratios.empty() || compress_ratios.size() == L || compress_ratios.size() == L + 1,
        "compress_ratios",
        expected,
        " or one more for the MTP block, got ",
        compress_ratios.size());
  check(compress_ratios.size() <= L || compress_ratios.back() == 0,
        "compress_ratios",
        "the entry of the MTP block must be 0, got ",
        compress_ratios.empty() ? 0 : compress_ratios.back());
  for (std::size_t i = 0; i < L; ++i) {
    const int64_t ratio = compress_ratios.empty() ? 0 : compress_ratios[i];
    check(
        ratio >= 0, "compress_ratios", "entry ", i, " is ", ratio, "; a ratio cannot be negative");
    const auto kind = layer_types.empty() ? kind_of_ratio(ratio) : layer_types[i];
    const bool compresses = kind == AttentionKind::kCsa || kind == AttentionKind::kHca;
    check(!compresses || ratio >= 1,
          "compress_ratios",
          "layer ",
          i,
          " is a compressing layer by layer_types but its ratio is ",
          ratio,
          "; expected at least 1");
  }
  check(num_hash_layers <= num_hidden_layers,
        "num_hash_layers",
        "is ",
        num_hash_layers,
        ", more than the ",
        num_hidden_layers,
        " layers of the model");
  check(num_attention_heads % o_groups == 0,
        "o_groups",
        "is ",
        o_groups,
        ", which does not divide the ",
        num_attention_heads,
        " heads (num_attention_heads)");
  check(qk_rope_head_dim % 2 == 0,
        "qk_rope_head_dim",
        "is ",
        qk_rope_head_dim,
        "; rotary channels come in pairs, so it must be even");
  check(qk_rope_head_dim <= head_dim,
        "qk_rope_head_dim",
        "is ",
        qk_rope_head_dim,
        ", more than head_dim ",
        head_dim);
  bool has_csa = false;
  for (int64_t i = 0; i < num_hidden_layers; ++i) {
    has_csa = has_csa || layer(i).attention == AttentionKind::kCsa;
  }
  check(!has_csa || qk_rope_head_dim <= index_head_dim,
        "index_head_dim",
        "is ",
        index_head_dim,
        ", less than qk_rope_head_dim ",
        qk_rope_head_dim);
  check(num_experts_per_tok <= n_routed_experts,
        "num_experts_per_tok",
        "is ",
        num_experts_per_tok,
        ", more than the ",
        n_routed_experts,
        " routed experts (n_routed_experts)");
  const bool experts_fit = hidden_size % kFp4Group == 0 && moe_intermediate_size % kFp4Group == 0;
  check(qat_experts != QuantFormat::kFp4 || experts_fit,
        "qat_experts",
        "fp4 has groups of 32 inputs, which do not divide hidden_size ",
        hidden_size,
        " and moe_intermediate_size ",
        moe_intermediate_size);
  check(qat_indexer != QuantFormat::kFp8, "qat_indexer", "is fp8; expected off or fp4");
  const bool power_of_two = (index_head_dim & (index_head_dim - 1)) == 0;
  check(qat_indexer == QuantFormat::kOff || (power_of_two && index_head_dim % kFp4Group == 0),
        "qat_indexer",
        "rotates and rounds groups of 32 channels; index_head_dim is ",
        index_head_dim,
        ", expected 32, 64, 128, ...");
  check(rope_scaling.beta_fast >= rope_scaling.beta_slow,
        "rope_scaling.beta_fast",
        "is ",
        rope_scaling.beta_fast,
        ", less than beta_slow ",
        rope_scaling.beta_slow);
}

}  // namespace braid
