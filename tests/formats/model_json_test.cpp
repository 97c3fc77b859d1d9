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
                  {"'head_dim' is \"wide\"", "expected an integer"});
  expect_mentions(
      message("d_mixed/config.json", [](auto& json) { json["rms_norm_eps"] = nullptr; }),
      {"'rms_norm_eps' is missing"});
  expect_mentions(
      message("d_mixed/release_config.json", [](auto& json) { json["compress_ratios"] = 4; }),
      {"'compress_ratios' is 4", "expected a list"});
  expect_mentions(
      message("d_mixed/config.json", [](auto& json) { json["layer_types"][0] = "linear"; }),
      {"'layer_types' holds 'linear'", "sliding_attention"});
  expect_mentions(message("d_mixed/config.json", [](auto& json) { json["rope_parameters"] = 3; }),
                  {"rope_parameters", "expected an object"});
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
