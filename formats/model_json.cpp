#include "formats/model_json.h"

#include <cmath>
#include <fstream>

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace braid {
namespace {

using Json = nlohmann::json;

// A JSON object and where it is, for messages.
class Section {
 public:
  Section(const Json& json, std::string place) : json_(json), place_(std::move(place)) {
    require(json.is_object(), place_, ": expected an object, got ", json.type_name());
  }

  bool has(const char* key) const { return json_.contains(key) && !json_.at(key).is_null(); }

  const Json& at(const char* key) const {
    require(has(key),
            place_,
            ": key '",
            key,
            "' is missing; is this the config.json of a DeepSeek-V4 model?");
    return json_.at(key);
  }

  Section section(const char* key) const { return {at(key), text(place_, ": ", key)}; }

  void read(const char* key, int64_t& into) const {
    require(
        at(key).is_number_integer(), place_, ": '", key, "' is ", at(key), ", expected an integer");
    into = at(key).get<int64_t>();
  }
  void read(const char* key, double& into) const {
    require(at(key).is_number(), place_, ": '", key, "' is ", at(key), ", expected a number");
    into = at(key).get<double>();
  }
  void read(const char* key, std::vector<int64_t>& into) const {
    for (const auto& item : list(key)) {
      require(
          item.is_number_integer(), place_, ": '", key, "' holds ", item, ", expected integers");
      into.push_back(item.get<int64_t>());
    }
  }
  std::vector<std::string> words(const char* key) const {
    std::vector<std::string> result;
    for (const auto& item : list(key)) {
      require(item.is_string(), place_, ": '", key, "' holds ", item, ", expected strings");
      result.push_back(item.get<std::string>());
    }
    return result;
  }
  template <class T>
  void read_if_there(const char* key, T& into) const {
    if (has(key)) {
      read(key, into);
    }
  }
  /// Requires the only value that Braid implements.
  void require_value(const char* key, const Json& expected) const {
    require(!has(key) || at(key) == expected,
            place_,
            ": '",
            key,
            "' is ",
            json_.value(key, Json()),
            "; Braid implements ",
            expected,
            " only");
  }
  const std::string& place() const { return place_; }

 private:
  const Json& list(const char* key) const {
    require(at(key).is_array(), place_, ": '", key, "' is ", at(key), ", expected a list");
    return at(key);
  }

  const Json& json_;
  std::string place_;
};

void read_layers_of_hf(const Section& json, ModelConfig& config) {
  const auto rates = json.section("compress_rates");
  for (const auto& word : json.words("layer_types")) {
    int64_t ratio = 0;
    if (word == "sliding_attention") {
      config.layer_types.push_back(AttentionKind::kWindow);
    } else if (word == "compressed_sparse_attention") {
      config.layer_types.push_back(AttentionKind::kCsa);
      rates.read("compressed_sparse_attention", ratio);
    } else if (word == "heavily_compressed_attention") {
      config.layer_types.push_back(AttentionKind::kHca);
      rates.read("heavily_compressed_attention", ratio);
    } else if (word == "full_attention") {
      config.layer_types.push_back(AttentionKind::kFull);
    } else {
      fail(json.place(),
           ": 'layer_types' holds '",
           word,
           "', expected sliding_attention, compressed_sparse_attention, "
           "heavily_compressed_attention or full_attention");
    }
    config.compress_ratios.push_back(ratio);
  }
}

void read_routing_of_hf(const Section& json, ModelConfig& config) {
  for (const auto& word : json.words("mlp_layer_types")) {
    require(word == "hash_moe" || word == "moe",
            json.place(),
            ": 'mlp_layer_types' holds '",
            word,
            "', expected hash_moe or moe");
    config.routing.push_back(word == "hash_moe" ? RoutingKind::kHash : RoutingKind::kLearned);
  }
}

void read_yarn(const Section& json, RopeScaling& scaling) {
  const char* kind = json.has("rope_type") ? "rope_type" : "type";
  if (!json.has(kind) || json.at(kind) == "default") {
    return;
  }
  json.require_value(kind, "yarn");
  json.read("factor", scaling.factor);
  json.read("original_max_position_embeddings", scaling.original_max_position_embeddings);
  json.read_if_there("beta_fast", scaling.beta_fast);
  json.read_if_there("beta_slow", scaling.beta_slow);
}

Json parsed(const std::filesystem::path& path) {
  std::ifstream file(path);
  require(file.good(), path.string(), ": cannot be read; expected the config.json of a model");
  try {
    return Json::parse(file);
  } catch (const Json::parse_error& error) {
    fail(path.string(), ": is not valid JSON: ", error.what());
  }
}

}  // namespace

ModelConfig read_model_json(const std::filesystem::path& path) {
  const Json document = parsed(path);
  const Section json(document, path.string());
  ModelConfig config;
  config.compress_ratios.clear();

  json.read("vocab_size", config.vocab_size);
  json.read("hidden_size", config.hidden_size);
  json.read("num_hidden_layers", config.num_hidden_layers);
  json.read("num_attention_heads", config.num_attention_heads);
  json.read("head_dim", config.head_dim);
  json.read("q_lora_rank", config.q_lora_rank);
  json.read("o_groups", config.o_groups);
  json.read("o_lora_rank", config.o_lora_rank);
  json.read("sliding_window", config.sliding_window);
  json.read("index_n_heads", config.index_n_heads);
  json.read("index_head_dim", config.index_head_dim);
  json.read("index_topk", config.index_topk.emplace());
  json.read("n_routed_experts", config.n_routed_experts);
  json.read("n_shared_experts", config.n_shared_experts);
  json.read("num_experts_per_tok", config.num_experts_per_tok);
  json.read("moe_intermediate_size", config.moe_intermediate_size);
  json.read("routed_scaling_factor", config.routed_scaling_factor);
  json.read("swiglu_limit", config.swiglu_limit);
  json.read("hc_mult", config.hc_mult);
  json.read("hc_sinkhorn_iters", config.hc_sinkhorn_iters);
  json.read("hc_eps", config.hc_eps);
  json.read("rms_norm_eps", config.rms_norm_eps);
  json.read_if_there("max_position_embeddings", config.max_position_embeddings);
  json.read_if_there("initializer_range", config.initializer_range);
  json.read_if_there("num_nextn_predict_layers", config.num_nextn_predict_layers);
  json.require_value("scoring_func", "sqrtsoftplus");
  json.require_value("norm_topk_prob", true);
  json.require_value("num_key_value_heads", 1);
  json.require_value("tie_word_embeddings", false);
  json.require_value("hidden_act", "silu");

  if (json.has("qk_rope_head_dim")) {
    json.read("qk_rope_head_dim", config.qk_rope_head_dim);
  } else {
    double share = 0;
    json.read("partial_rotary_factor", share);
    config.qk_rope_head_dim = std::llround(share * static_cast<double>(config.head_dim));
  }
  if (json.has("layer_types")) {
    read_layers_of_hf(json, config);
  } else {
    json.read("compress_ratios", config.compress_ratios);
  }
  config.num_hash_layers = 0;
  if (json.has("mlp_layer_types")) {
    read_routing_of_hf(json, config);
  } else {
    json.read("num_hash_layers", config.num_hash_layers);
  }
  if (json.has("rope_parameters")) {
    const auto main = json.section("rope_parameters").section("main");
    const auto compress = json.section("rope_parameters").section("compress");
    main.read("rope_theta", config.rope_theta);
    compress.read("rope_theta", config.compress_rope_theta);
    read_yarn(compress, config.rope_scaling);
  } else {
    json.read("rope_theta", config.rope_theta);
    json.read("compress_rope_theta", config.compress_rope_theta);
    if (json.has("rope_scaling")) {
      // The release's rope_scaling carries a rope_theta of its own, which is not used.
      read_yarn(json.section("rope_scaling"), config.rope_scaling);
    }
  }
  try {
    config.validate();
  } catch (const ConfigError& error) {
    fail(path.string(), ": ", error.what());
  }
  return config;
}

}  // namespace braid
