#include <fstream>
#include <iterator>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "formats/model_json.h"
#include "formats/model_json_keys.h"

namespace braid {
namespace {

using OrderedJson = nlohmann::ordered_json;

// The release names layers by their ratio alone: 0, 4 and 128.
bool has_release_ratios(const ModelConfig& config) {
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const auto layer = config.layer(i);
    if (!layer_word(layer.attention).is_released ||
        (layer.attention == AttentionKind::kCsa && layer.ratio != 4) ||
        (layer.attention == AttentionKind::kHca && layer.ratio != 128)) {
      return false;
    }
  }
  return true;
}

void add_layers(const ModelConfig& config, OrderedJson& json) {
  auto ratios = OrderedJson::array(), types = OrderedJson::array(), routing = OrderedJson::array();
  OrderedJson rates = OrderedJson::object();
  int64_t hash_layers = 0;
  bool hash_comes_first = true;
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const auto layer = config.layer(i);
    ratios.push_back(layer.ratio);
    const std::string word(layer_word(layer.attention).word);
    types.push_back(word);
    if (layer.compresses()) {
      auto& rate = rates[word];
      require(rate.is_null() || rate == layer.ratio,
              "config.json has one ratio for all ",
              word,
              " layers; this model has ",
              rate.dump(),
              " and ",
              layer.ratio);
      rate = layer.ratio;
    }
    const bool hash = layer.routing == RoutingKind::kHash;
    hash_comes_first &= !hash || hash_layers == i;
    hash_layers += hash;
    routing.push_back(hash ? "hash_moe" : "moe");
  }
  if (has_release_ratios(config)) {
    if (config.num_nextn_predict_layers > 0) {
      ratios.push_back(0);
    }
    json["compress_ratios"] = ratios;
  } else {
    for (const char* kind : {"compressed_sparse_attention", "heavily_compressed_attention"}) {
      if (!rates.contains(kind)) {
        rates[kind] = std::string_view(kind).front() == 'c' ? 4 : 128;
      }
    }
    json["layer_types"] = types;
    json["compress_rates"] = rates;
  }
  if (hash_comes_first) {
    json["num_hash_layers"] = hash_layers;
  } else {
    json["mlp_layer_types"] = routing;
  }
}

constexpr const char* kRatios = "compress_ratios";

// What a config.json says of its DSpark drafter: dspark_*, the number of blocks, and their entries
// behind those of the layers.
OrderedJson drafter_of(const OrderedJson& json) {
  OrderedJson result = OrderedJson::object();
  for (const auto& [key, value] : json.items()) {
    if (is_drafter_key(key) || key == "num_nextn_predict_layers") {
      result[key] = value;
    }
  }
  if (json.contains(kRatios)) {
    auto ratios = json.at(kRatios);
    const auto layers = json.at("num_hidden_layers").get<std::size_t>();
    for (std::size_t i = 0; i < layers && !ratios.empty(); ++i) {
      ratios.erase(0);
    }
    result[kRatios] = ratios;
  }
  return result;
}

void remove_drafter_keys(OrderedJson& json) {
  for (auto item = json.begin(); item != json.end();) {
    item = is_drafter_key(item.key()) ? json.erase(item) : std::next(item);
  }
}

}  // namespace

std::string model_json(const ModelConfig& config,
                       std::optional<ReleaseLayout> quantized,
                       const std::filesystem::path& base,
                       at::ScalarType dtype,
                       bool with_drafter) {
  constexpr const char* kWayOut = "; `convert --to checkpoint` keeps the model as it is";
  require(config.residual == ResidualKind::kMhc,
          "config.json can only describe models with model.residual: mhc",
          kWayOut);
  require(config.index_topk.has_value(),
          "config.json needs a number for model.index_topk, which is all",
          kWayOut);
  OrderedJson json = {{"architectures", {"DeepseekV4ForCausalLM"}},
                      {"model_type", "deepseek_v4"},
                      {"attention_bias", false},
                      {"attention_dropout", 0.0},
                      {"bos_token_id", 0},
                      {"eos_token_id", 1},
                      {"hidden_act", "silu"},
                      {"norm_topk_prob", true},
                      {"num_key_value_heads", 1},
                      {"scoring_func", "sqrtsoftplus"},
                      {"tie_word_embeddings", false},
                      {"topk_method", "noaux_tc"},
                      {"use_cache", true}};
  if (!base.empty()) {
    std::ifstream file(base);
    require(file.good(), base.string(), ": cannot be read");
    json.update(OrderedJson::parse(file));
  }
  const auto drafter = with_drafter ? drafter_of(json) : OrderedJson::object();
  remove_drafter_keys(json);
  for (const char* key : {"layer_types",
                          "compress_rates",
                          "compress_ratios",
                          "mlp_layer_types",
                          "num_hash_layers",
                          "rope_parameters",
                          "partial_rotary_factor",
                          "rope_scaling",
                          "expert_dtype",
                          "quantization_config",
                          "dtype",
                          "torch_dtype"}) {
    json.erase(key);
  }
  json["torch_dtype"] = dtype == at::kBFloat16 ? "bfloat16"
                        : dtype == at::kDouble ? "float64"
                                               : "float32";
  json["vocab_size"] = config.vocab_size;
  json["hidden_size"] = config.hidden_size;
  json["moe_intermediate_size"] = config.moe_intermediate_size;
  json["num_hidden_layers"] = config.num_hidden_layers;
  json["num_nextn_predict_layers"] = config.num_nextn_predict_layers;
  json["num_attention_heads"] = config.num_attention_heads;
  json["head_dim"] = config.head_dim;
  json["qk_rope_head_dim"] = config.qk_rope_head_dim;
  json["q_lora_rank"] = config.q_lora_rank;
  json["o_groups"] = config.o_groups;
  json["o_lora_rank"] = config.o_lora_rank;
  json["n_routed_experts"] = config.n_routed_experts;
  json["n_shared_experts"] = config.n_shared_experts;
  json["num_experts_per_tok"] = config.num_experts_per_tok;
  json["routed_scaling_factor"] = config.routed_scaling_factor;
  json["swiglu_limit"] = config.swiglu_limit;
  json["sliding_window"] = config.sliding_window;
  json["index_n_heads"] = config.index_n_heads;
  json["index_head_dim"] = config.index_head_dim;
  json["index_topk"] = *config.index_topk;
  json["max_position_embeddings"] = config.max_position_embeddings;
  json["hc_mult"] = config.hc_mult;
  json["hc_sinkhorn_iters"] = config.hc_sinkhorn_iters;
  json["hc_eps"] = config.hc_eps;
  json["rms_norm_eps"] = config.rms_norm_eps;
  json["initializer_range"] = config.initializer_range;
  json["rope_theta"] = config.rope_theta;
  json["compress_rope_theta"] = config.compress_rope_theta;
  if (const auto& scaling = config.rope_scaling; scaling.factor != 1) {
    json["rope_scaling"] = {
        {"type", "yarn"},
        {"rope_type", "yarn"},
        {"factor", scaling.factor},
        {"beta_fast", scaling.beta_fast},
        {"beta_slow", scaling.beta_slow},
        {"original_max_position_embeddings", scaling.original_max_position_embeddings}};
  }
  add_layers(config, json);
  for (const auto& [key, value] : drafter.items()) {
    if (key == kRatios && json.contains(kRatios)) {
      json[kRatios].insert(json[kRatios].end(), value.begin(), value.end());
    } else if (key != kRatios) {
      json[key] = value;
    }
  }
  if (quantized) {
    const bool instruct = *quantized == ReleaseLayout::kInstruct;
    json["expert_dtype"] = instruct ? "fp4" : "fp8";
    json["quantization_config"] = {{"activation_scheme", "dynamic"},
                                   {"fmt", "e4m3"},
                                   {"quant_method", "fp8"},
                                   {"weight_block_size", {128, 128}}};
    if (instruct) {
      json["quantization_config"]["scale_fmt"] = "ue8m0";
    }
  }
  return json.dump(2) + "\n";
}

}  // namespace braid
