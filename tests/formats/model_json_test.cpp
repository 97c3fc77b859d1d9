#include "formats/model_json.h"

#include <nlohmann/json.hpp>

#include "tests/loading/corpus.h"

namespace braid {
namespace {

using namespace testing;

std::string golden(const std::string& file) {
  return text(BRAID_TEST_DATA, "/golden/", file);
}

// Everything a configuration says, however its layers are spelt.
std::string meaning(ModelConfig config) {
  std::string layers;
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const auto layer = config.layer(i);
    layers += text(static_cast<int>(layer.attention),
                   ' ',
                   layer.ratio,
                   ' ',
                   static_cast<int>(layer.routing),
                   '\n');
  }
  config.compress_ratios.clear();
  config.layer_types.clear();
  config.routing.clear();
  config.num_hash_layers = 0;
  return layers + dump_config(config);
}

class BothSpellings : public ::testing::TestWithParam<const char*> {};

TEST_P(BothSpellings, MeanTheSame) {
  const std::string folder = GetParam();
  EXPECT_EQ(meaning(read_model_json(golden(folder + "/config.json"))),
            meaning(read_model_json(golden(folder + "/release_config.json"))));
}

INSTANTIATE_TEST_SUITE_P(Golden,
                         BothSpellings,
                         ::testing::Values("d_mixed", "h_yarn_long", "e_moe_routing", "mtp"),
                         [](const auto& test) { return std::string(test.param); });

TEST(ModelJson, ReadsTheValuesOfBothSpellings) {
  for (const char* file : {"h_yarn_long/config.json", "h_yarn_long/release_config.json"}) {
    const auto config = read_model_json(golden(file));
    EXPECT_EQ(config.vocab_size, 48);
    EXPECT_EQ(config.qk_rope_head_dim, 8);
    EXPECT_EQ(config.rope_theta, 10000);
    EXPECT_EQ(config.compress_rope_theta, 160000);
    EXPECT_EQ(config.rope_scaling.factor, 16);
    EXPECT_EQ(config.layer(0).attention, AttentionKind::kWindow);
    EXPECT_EQ(config.layer(1).attention, AttentionKind::kCsa);
    EXPECT_EQ(config.layer(1).ratio, 4);
    EXPECT_EQ(config.layer(2).attention, AttentionKind::kHca);
    EXPECT_EQ(config.layer(2).ratio, 128);
  }
}

class BadModelJson : public CorpusTest {
 protected:
  /// The message for the golden file with one change.
  template <class Change>
  std::string message(const std::string& source, Change change) const {
    auto json = nlohmann::json::parse(read_file(golden(source)));
    change(json);
    const auto path = write("config.json", json.dump());
    return error_of([&] { read_model_json(path); });
  }
};

TEST_F(BadModelJson, NamesAMissingKey) {
  for (const char* key : {"hidden_size", "layer_types", "rope_parameters"}) {
    const auto got = message("d_mixed/config.json", [&](auto& json) {
      json.erase(key);
      json.erase("rope_theta");
    });
    expect_mentions(got, {"config.json", "is missing"});
  }
  expect_mentions(message("d_mixed/config.json", [](auto& json) { json.erase("hidden_size"); }),
                  {"'hidden_size' is missing"});
  expect_mentions(
      message("d_mixed/config.json",
              [](auto& json) { json["compress_rates"].erase("heavily_compressed_attention"); }),
      {"compress_rates", "'heavily_compressed_attention' is missing"});
}

TEST_F(BadModelJson, NamesAnIllTypedValue) {
  expect_mentions(message("d_mixed/config.json", [](auto& json) { json["head_dim"] = "wide"; }),
                  {"'head_dim' is \"wide\"", "expected a number"});
  expect_mentions(message("d_mixed/config.json", [](auto& json) { json["hidden_size"] = "wide"; }),
                  {"hidden_size (", "config.json)", "expected a whole number", "\"wide\""});
  expect_mentions(message("d_mixed/config.json", [](auto& json) { json["hidden_size"] = 24.5; }),
                  {"hidden_size (", "expected a whole number", "24.5"});
  expect_mentions(
      message("d_mixed/config.json", [](auto& json) { json["rms_norm_eps"] = nullptr; }),
      {"'rms_norm_eps' is missing"});
  expect_mentions(
      message("d_mixed/release_config.json", [](auto& json) { json["compress_ratios"] = 4; }),
      {"compress_ratios (", "config.json)", "expected a list", "'4'"});
  expect_mentions(
      message("d_mixed/config.json", [](auto& json) { json["layer_types"][0] = "linear"; }),
      {"'layer_types' holds 'linear'", "sliding_attention"});
  expect_mentions(message("d_mixed/config.json", [](auto& json) { json["rope_parameters"] = 3; }),
                  {"rope_parameters", "expected an object"});
}

struct KeyAndValue {
  const char *key, *value;
};

// The ranges are those of the YAML's keys, in both spellings.
TEST_F(BadModelJson, RefusesNumbersOutOfRange) {
  constexpr KeyAndValue kBad[] = {{"vocab_size", "0"},
                                  {"hidden_size", "-8"},
                                  {"num_hidden_layers", "0"},
                                  {"num_attention_heads", "-1"},
                                  {"q_lora_rank", "0"},
                                  {"o_groups", "0"},
                                  {"o_lora_rank", "-4"},
                                  {"sliding_window", "0"},
                                  {"index_n_heads", "0"},
                                  {"index_head_dim", "-2"},
                                  {"index_topk", "0"},
                                  {"n_routed_experts", "0"},
                                  {"n_shared_experts", "2"},
                                  {"num_experts_per_tok", "0"},
                                  {"moe_intermediate_size", "99999999999999999999"},
                                  {"routed_scaling_factor", "0"},
                                  {"swiglu_limit", "-1"},
                                  {"hc_mult", "0"},
                                  {"hc_sinkhorn_iters", "0"},
                                  {"hc_eps", "0"},
                                  {"rms_norm_eps", "-1e-6"},
                                  {"max_position_embeddings", "0"},
                                  {"initializer_range", "-0.1"},
                                  {"num_nextn_predict_layers", "2"},
                                  {"qk_rope_head_dim", "0"}};
  for (const char* file : {"d_mixed/config.json", "d_mixed/release_config.json"}) {
    for (const auto& [key, value] : kBad) {
      expect_mentions(message(file,
                              [&key = key, &value = value](auto& json) {
                                json.erase("partial_rotary_factor");
                                json[key] = nlohmann::json::parse(value);
                              }),
                      {key, "config.json"});
    }
  }
  const auto thetas = [](auto& json) { json["rope_theta"] = -1; };
  expect_mentions(message("d_mixed/release_config.json", thetas),
                  {"rope_theta (", "config.json)", "must be > 1, got -1"});
  expect_mentions(message("d_mixed/config.json",
                          [](auto& json) { json["rope_parameters"]["main"]["rope_theta"] = -1; }),
                  {"rope_theta (", "rope_parameters: main)", "must be > 1, got -1"});
  expect_mentions(message("h_yarn_long/config.json",
                          [](auto& json) { json["rope_parameters"]["compress"]["factor"] = 0.5; }),
                  {"rope_scaling.factor (", "compress)", "must be >= 1, got 0.5"});
  expect_mentions(
      message("d_mixed/config.json",
              [](auto& json) { json["compress_rates"]["heavily_compressed_attention"] = -8; }),
      {"'compress_ratios'", "-8"});
  expect_mentions(message("d_mixed/config.json",
                          [](auto& json) {
                            json.erase("qk_rope_head_dim");
                            json["partial_rotary_factor"] = -0.5;
                          }),
                  {"'partial_rotary_factor' is -0.5", "in [0, 1]"});
}

TEST_F(BadModelJson, RefusesKeysThatChangeTheComputation) {
  constexpr KeyAndValue kOther[] = {{"attention_bias", "true"},
                                    {"mlp_bias", "true"},
                                    {"lm_head_bias", "true"},
                                    {"hidden_act", "\"gelu\""},
                                    {"tie_word_embeddings", "true"},
                                    {"num_key_value_heads", "2"},
                                    {"scoring_func", "\"sigmoid\""},
                                    {"topk_method", "\"greedy\""},
                                    {"norm_topk_prob", "false"},
                                    {"n_group", "8"},
                                    {"topk_group", "4"},
                                    {"first_k_dense_replace", "3"},
                                    {"moe_layer_freq", "2"},
                                    {"attn_logit_softcapping", "50.0"},
                                    {"final_logit_softcapping", "30.0"},
                                    {"embedding_multiplier", "12.0"},
                                    {"residual_multiplier", "0.2"},
                                    {"logits_scaling", "8.0"},
                                    {"rope_interleave", "false"},
                                    {"compress_rate_csa", "2"},
                                    {"compress_rate_hca", "64"},
                                    {"v_head_dim", "7"},
                                    {"partial_rotary_factor", "0.25"},
                                    {"text_config", "{}"},
                                    {"model_type", "\"deepseek_v41\""},
                                    {"model_type", "\"deepseek_v3\""},
                                    {"quantization_config", "{\"quant_method\": \"gptq\"}"},
                                    {"quantization_config", "{\"bits\": 4}"}};
  for (const char* file : {"d_mixed/config.json", "d_mixed/release_config.json"}) {
    for (const auto& [key, value] : kOther) {
      expect_mentions(message(file,
                              [&key = key, &value = value](auto& json) {
                                json[key] = nlohmann::json::parse(value);
                              }),
                      {key, "config.json"});
    }
  }
  const auto quantization = [this](const char* key, const char* value) {
    return message("d_mixed/release_config.json", [&](auto& json) {
      json["quantization_config"] = {{"quant_method", "fp8"}};
      json["quantization_config"][key] = nlohmann::json::parse(value);
    });
  };
  expect_mentions(quantization("weight_block_size", "[32, 32]"), {"weight_block_size", "[32,32]"});
  expect_mentions(quantization("fmt", "\"e5m2\""), {"fmt", "e5m2"});
  const auto yarn = [this](const char* key, const char* value) {
    return message("h_yarn_long/release_config.json",
                   [&](auto& json) { json["rope_scaling"][key] = nlohmann::json::parse(value); });
  };
  expect_mentions(yarn("attention_factor", "1.277"), {"rope_scaling", "'attention_factor'"});
  expect_mentions(yarn("mscale", "0.707"), {"rope_scaling", "'mscale'"});
  expect_mentions(yarn("truncate", "false"), {"rope_scaling", "'truncate'"});
  expect_mentions(yarn("short_factor", "[1]"), {"rope_scaling", "'short_factor'", "does not know"});
  expect_mentions(yarn("rope_type", "\"llama3\""), {"rope_scaling", "rope_type", "llama3"});
  expect_mentions(message("h_yarn_long/config.json",
                          [](auto& json) {
                            json["rope_parameters"]["main"]["rope_type"] = "yarn";
                            json["rope_parameters"]["main"]["factor"] = 4;
                          }),
                  {"rope_parameters: main", "YaRN"});
}

TEST_F(BadModelJson, RefusesListsThatContradictEachOther) {
  expect_mentions(message("d_mixed/config.json",
                          [](auto& json) {
                            json["compress_ratios"] = {0, 0, 4, 8, 8, 0};
                          }),
                  {"'compress_ratios' and 'layer_types'", "layer 4"});
  expect_mentions(message("d_mixed/config.json", [](auto& json) { json["num_hash_layers"] = 3; }),
                  {"'num_hash_layers' and 'mlp_layer_types'", "layer 2"});
  auto json = nlohmann::json::parse(read_file(golden("d_mixed/config.json")));
  json["num_hash_layers"] = 2;  // says the same
  EXPECT_NO_THROW(read_model_json(write("config.json", json.dump())));
}

TEST_F(BadModelJson, PassesOverWhatChangesNothingAndNamesWhatItDoesNotKnow) {
  auto json = nlohmann::json::parse(read_file(golden("d_mixed/config.json")));
  json.erase("model_type");
  EXPECT_TRUE(model_json_at(write("config.json", json.dump())).unknown_keys.empty());
  for (const auto& [key, value] : {KeyAndValue{"attention_dropout", "0.1"},
                                   {"router_aux_loss_coef", "0.5"},
                                   {"transformers_version", "\"6.0\""},
                                   {"attn_logit_softcapping", "null"},
                                   {"attention_bias", "false"},
                                   {"_attn_implementation", "\"eager\""}}) {
    json[key] = nlohmann::json::parse(value);
  }
  json["zeta"] = 1;
  json["alpha"] = "x";
  const auto read = model_json_at(write("config.json", json.dump()));
  EXPECT_EQ(read.unknown_keys, (std::vector<std::string>{"alpha", "zeta"}));
  EXPECT_EQ(meaning(read.config), meaning(read_model_json(golden("d_mixed/config.json"))));
}

TEST_F(BadModelJson, NamesTheNewerArchitecture) {
  expect_mentions(
      message("d_mixed/config.json", [](auto& json) { json["model_type"] = "deepseek_v41"; }),
      {"'model_type' is \"deepseek_v41\"", "deepseek_v4", "DeepSeek-V4.1 is another architecture"});
  expect_mentions(message("d_mixed/config.json",
                          [](auto& json) {
                            json.erase("model_type");
                            json["architectures"] = {"DeepseekV41ForCausalLM"};
                          }),
                  {"'architectures'", "DeepSeek-V4.1 is another architecture"});
}

TEST_F(BadModelJson, ADrafterTakesThePlaceOfTheMtpBlock) {
  auto json = nlohmann::json::parse(read_file(golden("d_mixed/release_config.json")));
  json["num_nextn_predict_layers"] = 1;
  json["dspark_block_size"] = 5;
  auto& ratios = json["compress_ratios"];
  ratios.erase(ratios.begin() + 6, ratios.end());
  ratios.insert(ratios.end(), {0, 0, 0});
  const auto read = model_json_at(write("config.json", json.dump()));
  EXPECT_TRUE(read.has_drafter);
  EXPECT_EQ(read.config.num_nextn_predict_layers, 0);
  EXPECT_EQ(read.config.compress_ratios.size(), 6u);
  ratios.back() = 4;
  expect_mentions(error_of([&] { model_json_at(write("config.json", json.dump())); }),
                  {"DSpark", "entry 8 is 4"});
}

TEST_F(BadModelJson, RefusesAnotherArchitecture) {
  expect_mentions(
      message("d_mixed/config.json", [](auto& json) { json["scoring_func"] = "sigmoid"; }),
      {"'scoring_func' is \"sigmoid\"", "sqrtsoftplus"});
  expect_mentions(
      message("d_mixed/config.json", [](auto& json) { json["tie_word_embeddings"] = true; }),
      {"tie_word_embeddings"});
  expect_mentions(message("h_yarn_long/release_config.json",
                          [](auto& json) { json["rope_scaling"]["type"] = "linear"; }),
                  {"rope_scaling", "linear", "yarn"});
  expect_mentions(
      message("d_mixed/config.json", [](auto& json) { json["num_experts_per_tok"] = 99; }),
      {"config.json", "num_experts_per_tok", "99"});
}

TEST_F(BadModelJson, NamesAFileThatIsAbsentOrNoJson) {
  expect_mentions(error_of([&] { read_model_json(folder_ / "config.json"); }),
                  {"config.json", "cannot be read"});
  const auto path = write("config.json", "{\"vocab_size\": 3");
  expect_mentions(error_of([&] { read_model_json(path); }), {"config.json", "not valid JSON"});
}

}  // namespace
}  // namespace braid
