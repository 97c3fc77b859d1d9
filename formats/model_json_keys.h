#pragma once
// What Braid makes of every key of config.json that it knows. Keys of no list here are passed over
// and named to the user.
#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"

namespace braid {

/// A key that would change the computation: the values that Braid implements, as a JSON list; an
/// empty one where it implements none.
struct OnlyValue {
  const char* key;
  const char* values;
};

inline constexpr OnlyValue kOnlyValues[] = {
    {"attention_bias", "[false]"},
    {"attn_logit_softcapping", "[]"},
    {"compress_rate_csa", "[]"},  // compress_rates says it
    {"compress_rate_hca", "[]"},
    {"embedding_multiplier", "[1, 1.0]"},
    {"final_logit_softcapping", "[]"},
    {"first_k_dense_replace", "[0]"},
    {"hidden_act", R"(["silu"])"},
    {"hidden_activation", R"(["silu"])"},
    {"lm_head_bias", "[false]"},
    {"logits_scaling", "[1, 1.0]"},
    {"mlp_bias", "[false]"},
    {"moe_layer_freq", "[1]"},
    {"n_group", "[1]"},
    {"norm_topk_prob", "[true]"},
    {"num_key_value_heads", "[1]"},
    {"residual_multiplier", "[1, 1.0]"},
    {"rope_interleave", "[true]"},
    {"scoring_func", R"(["sqrtsoftplus"])"},
    {"tie_word_embeddings", "[false]"},
    {"topk_group", "[1]"},
    {"topk_method", R"(["noaux_tc"])"},
    {"use_qk_norm", "[true]"},
    {"use_sliding_window", "[true]"},
};

/// The same within quantization_config.
inline constexpr OnlyValue kOnlyQuantization[] = {
    {"quant_method", R"(["fp8"])"},
    {"fmt", R"(["e4m3"])"},
    {"weight_block_size", "[[128, 128]]"},
    {"scale_fmt", R"(["ue8m0", "float"])"},
};

/// Fields of ModelConfig that have the same name and must be there.
inline constexpr const char* kSameKeys[] = {
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "head_dim",
    "q_lora_rank",
    "o_groups",
    "o_lora_rank",
    "sliding_window",
    "index_n_heads",
    "index_head_dim",
    "index_topk",
    "n_routed_experts",
    "n_shared_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
    "routed_scaling_factor",
    "swiglu_limit",
    "hc_mult",
    "hc_sinkhorn_iters",
    "hc_eps",
    "rms_norm_eps",
};

/// Those that may be absent.
inline constexpr const char* kOptionalKeys[] = {
    "max_position_embeddings",
    "initializer_range",
    "num_nextn_predict_layers",
};

/// Fields that have several spellings.
inline constexpr const char* kSpelledKeys[] = {
    "layer_types",
    "compress_rates",
    "compress_ratios",
    "mlp_layer_types",
    "num_hash_layers",
    "qk_rope_head_dim",
    "partial_rotary_factor",
    "rope_theta",
    "compress_rope_theta",
    "rope_scaling",
    "rope_parameters",
    "v_head_dim",
};

/// Keys of rope_scaling, and of the parts of rope_parameters.
inline const std::vector<std::string> kRopeKeys = {
    "type",
    "rope_type",
    "rope_theta",
    "partial_rotary_factor",
    "factor",
    "original_max_position_embeddings",
    "beta_fast",
    "beta_slow",
    "attention_factor",
    "mscale",
    "mscale_all_dim",
    "truncate",
};

/// Keys that say how a model is stored, trained or used, and nothing of what it computes.
inline constexpr std::string_view kHarmlessKeys[] = {
    "architectures",
    "attention_dropout",
    "auto_map",
    "aux_loss_alpha",
    "bos_token_id",
    "chunk_size_feed_forward",
    "dtype",
    "eos_token_id",
    "ep_size",
    "expert_dtype",
    "hidden_dropout",
    "id2label",
    "intermediate_size",  // of dense layers, which there are none of
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "model_type",
    "num_local_experts",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "pad_token_id",
    "pretraining_tp",
    "problem_type",
    "quantization_config",
    "return_dict",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "seq_aux",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
};

/// An attention kind as layer_types spells it.
struct LayerWord {
  AttentionKind kind;
  std::string_view word;
  bool is_released = true;  ///< the release and transformers have such layers
};
inline constexpr std::array kLayerWords = {
    LayerWord{AttentionKind::kWindow, "sliding_attention"},
    LayerWord{AttentionKind::kCsa, "compressed_sparse_attention"},
    LayerWord{AttentionKind::kHca, "heavily_compressed_attention"},
    LayerWord{AttentionKind::kFull, "full_attention", false},
};
inline const LayerWord& layer_word(AttentionKind kind) {
  return *std::ranges::find(kLayerWords, kind, &LayerWord::kind);
}

template <class Keys>
bool is_known(std::string_view key, const Keys& known) {
  return std::ranges::find(known, key) != std::ranges::end(known);
}

}  // namespace braid
