#pragma once
// The architecture of one model, with the field names of the release's config.json.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"
#include "kernels/fake_quant.h"

namespace braid {

/// What a layer's attention reads besides the sliding window of raw tokens.
enum class AttentionKind {
  kWindow,  ///< nothing: the window only
  kCsa,     ///< overlapping compressed entries, the top-k of a lightning indexer
  kHca,     ///< heavily compressed entries, all visible ones
  kFull,    ///< no compression: a window as long as the sequence
};
inline auto enum_names(AttentionKind) {
  return std::array{EnumName{"window", AttentionKind::kWindow},
                    EnumName{"csa", AttentionKind::kCsa},
                    EnumName{"hca", AttentionKind::kHca},
                    EnumName{"full", AttentionKind::kFull}};
}

/// How a layer picks its experts: by the token's id, or by scores with a balancing bias.
enum class RoutingKind { kHash, kLearned };
inline auto enum_names(RoutingKind) {
  return std::array{EnumName{"hash", RoutingKind::kHash},
                    EnumName{"learned", RoutingKind::kLearned}};
}

/// How sublayers are joined: one residual stream, free hyper-connections, or doubly stochastic
/// ones.
enum class ResidualKind { kPlain, kHc, kMhc };
inline auto enum_names(ResidualKind) {
  return std::array{EnumName{"plain", ResidualKind::kPlain},
                    EnumName{"hc", ResidualKind::kHc},
                    EnumName{"mhc", ResidualKind::kMhc}};
}

/// Where mHC starts: close to a plain residual, or with uniform mixing.
enum class MhcInit { kIdentity, kUniform };
inline auto enum_names(MhcInit) {
  return std::array{EnumName{"identity", MhcInit::kIdentity},
                    EnumName{"uniform", MhcInit::kUniform}};
}

inline auto enum_names(QuantFormat) {
  return std::array{EnumName{"off", QuantFormat::kOff},
                    EnumName{"fp8", QuantFormat::kFp8},
                    EnumName{"fp4", QuantFormat::kFp4}};
}

/// YaRN (arXiv 2309.00071) for the layers that compress; factor 1 leaves the frequencies as they
/// are.
struct RopeScaling {
  double factor = 1;
  int64_t original_max_position_embeddings = 65536;
  double beta_fast = 32;
  double beta_slow = 1;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("factor",
      &RopeScaling::factor,
      "by how much low frequencies are stretched; 1 = no YaRN",
      at_least(1.0));
    v("original_max_position_embeddings",
      &RopeScaling::original_max_position_embeddings,
      "context length before the stretch, in tokens",
      at_least(1));
    v("beta_fast",
      &RopeScaling::beta_fast,
      "rotations above which a channel keeps its frequency",
      more_than(0.0));
    v("beta_slow",
      &RopeScaling::beta_slow,
      "rotations below which a channel is stretched fully",
      more_than(0.0));
  }
};

/// One layer, resolved.
struct LayerConfig {
  AttentionKind attention = AttentionKind::kWindow;
  int64_t ratio = 0;  ///< tokens a compressed entry stands for; 0 for window and full
  RoutingKind routing = RoutingKind::kLearned;
  /// Raw tokens a query sees, itself included; none = all before it.
  std::optional<int64_t> window;

  bool compresses() const {
    return attention == AttentionKind::kCsa || attention == AttentionKind::kHca;
  }
};

struct ModelConfig {
  int64_t vocab_size = 320;
  int64_t hidden_size = 128;
  int64_t num_hidden_layers = 6;
  int64_t num_attention_heads = 4;
  int64_t head_dim = 32;
  int64_t qk_rope_head_dim = 16;
  int64_t q_lora_rank = 64;
  int64_t o_groups = 2;
  int64_t o_lora_rank = 32;
  int64_t sliding_window = 32;
  std::vector<int64_t> compress_ratios = {0, 0, 4, 16, 4, 0};
  std::vector<AttentionKind> layer_types;
  int64_t index_n_heads = 4;
  int64_t index_head_dim = 32;
  std::optional<int64_t> index_topk = 16;
  int64_t n_routed_experts = 8;
  int64_t n_shared_experts = 1;
  int64_t num_experts_per_tok = 2;
  int64_t moe_intermediate_size = 128;
  double routed_scaling_factor = 1.5;
  double swiglu_limit = 10;
  int64_t num_hash_layers = 1;
  std::vector<RoutingKind> routing;
  int64_t num_nextn_predict_layers = 0;
  ResidualKind residual = ResidualKind::kMhc;
  MhcInit mhc_init = MhcInit::kIdentity;
  int64_t hc_mult = 4;
  int64_t hc_sinkhorn_iters = 20;
  double hc_eps = 1e-6;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000;
  double compress_rope_theta = 160000;
  RopeScaling rope_scaling;
  int64_t max_position_embeddings = 1048576;
  double initializer_range = 0.02;
  QuantFormat qat_experts = QuantFormat::kOff;
  QuantFormat qat_indexer = QuantFormat::kOff;

  template <class Visitor>
  static void fields(Visitor& v) {
    using M = ModelConfig;
    v("vocab_size", &M::vocab_size, "token ids", at_least(1));
    v("hidden_size", &M::hidden_size, "width of one residual stream", at_least(1));
    v("num_hidden_layers",
      &M::num_hidden_layers,
      "decoder layers, the MTP block not counted",
      at_least(1));
    v("num_attention_heads", &M::num_attention_heads, "query heads", at_least(1));
    v("head_dim",
      &M::head_dim,
      "channels of a head; the rotary ones are the last of them",
      at_least(1));
    v("qk_rope_head_dim",
      &M::qk_rope_head_dim,
      "rotary channels of attention and indexer heads",
      at_least(2));
    v("q_lora_rank", &M::q_lora_rank, "width of the low-rank query latent", at_least(1));
    v("o_groups", &M::o_groups, "groups of heads of the output projection", at_least(1));
    v("o_lora_rank", &M::o_lora_rank, "output latent of each group", at_least(1));
    v("sliding_window",
      &M::sliding_window,
      "raw tokens a query sees, itself included",
      at_least(1));
    v("compress_ratios",
      &M::compress_ratios,
      "per layer: 0 = window, 4 = CSA, other = HCA with that ratio; one more entry (0) for MTP is "
      "allowed");
    v("layer_types", &M::layer_types, "per layer: overrides the kind that compress_ratios implies");
    v("index_n_heads", &M::index_n_heads, "heads of the lightning indexer", at_least(1));
    v("index_head_dim", &M::index_head_dim, "channels of an indexer head", at_least(1));
    v("index_topk",
      &M::index_topk,
      "compressed entries a query keeps in a CSA layer",
      at_least(1),
      absent_as("all"));
    v("n_routed_experts", &M::n_routed_experts, "routed experts of each layer", at_least(1));
    v("n_shared_experts", &M::n_shared_experts, "shared experts of each layer", between(0, 1));
    v("num_experts_per_tok", &M::num_experts_per_tok, "routed experts a token visits", at_least(1));
    v("moe_intermediate_size", &M::moe_intermediate_size, "width of an expert", at_least(1));
    v("routed_scaling_factor",
      &M::routed_scaling_factor,
      "factor on the normalized routing weights",
      more_than(0.0));
    v("swiglu_limit", &M::swiglu_limit, "clamp of the expert's pre-activations", more_than(0.0));
    v("num_hash_layers", &M::num_hash_layers, "first layers that route by token id", at_least(0));
    v("routing", &M::routing, "per layer: overrides num_hash_layers");
    v("num_nextn_predict_layers",
      &M::num_nextn_predict_layers,
      "multi-token prediction blocks",
      between(0, 1));
    v("residual", &M::residual, "residual connections");
    v("mhc_init", &M::mhc_init, "initial mixing of mHC");
    v("hc_mult", &M::hc_mult, "residual streams of hc and mhc", at_least(1));
    v("hc_sinkhorn_iters", &M::hc_sinkhorn_iters, "Sinkhorn iterations of mHC", between(1, 1000));
    v("hc_eps", &M::hc_eps, "epsilon in every Sinkhorn denominator", more_than(0.0));
    v("rms_norm_eps", &M::rms_norm_eps, "epsilon of every RMS norm", more_than(0.0));
    v("rope_theta", &M::rope_theta, "rotary base of window and full layers", more_than(1.0));
    v("compress_rope_theta",
      &M::compress_rope_theta,
      "rotary base of CSA and HCA layers",
      more_than(1.0));
    v("rope_scaling", &M::rope_scaling, "YaRN of CSA and HCA layers");
    v("max_position_embeddings",
      &M::max_position_embeddings,
      "longest sequence, in tokens",
      at_least(1));
    v("initializer_range",
      &M::initializer_range,
      "standard deviation of initial matrices",
      at_least(0.0));
    v("qat_experts",
      &M::qat_experts,
      "quantization-aware training: routed experts take part as this format rounds them, gradients "
      "go straight through");
    v("qat_indexer",
      &M::qat_indexer,
      "the same for the indexer's queries and keys, rotated by a Hadamard matrix: off or fp4");
  }

  /// Residual streams that exist: 1 for `plain`.
  int64_t num_streams() const { return residual == ResidualKind::kPlain ? 1 : hc_mult; }

  /// Decoder layer `layer` (0-based); call validate() before.
  LayerConfig layer(int64_t layer) const;

  /// The MTP block is a learned-routed window layer (a full one when every decoder layer is full).
  LayerConfig mtp_layer() const;

  /// Checks what single fields cannot: throws ConfigError with the key, below the path `prefix`.
  void validate(const std::string& prefix = "model") const;
};

}  // namespace braid
