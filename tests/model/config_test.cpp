#include "model/config.h"

#include <functional>
#include <set>

#include <gtest/gtest.h>

#include "core/config.h"
#include "tests/model/support.h"

namespace braid {
namespace {

struct ModelFile {
  ModelConfig model;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("model", &ModelFile::model, "the architecture");
  }
};

ModelConfig released(const std::string& name) {
  auto config =
      load_config<ModelFile>(std::string(BRAID_TEST_DATA) + "/../../configs/models/" + name)
          .value.model;
  config.validate();
  return config;
}

// docs/equations.md (72).
TEST(ReleasedModels, FlashHasItsLayers) {
  const auto config = released("flash.yaml");
  ASSERT_EQ(config.num_hidden_layers, 43);
  for (int64_t i = 0; i < 43; ++i) {
    const auto layer = config.layer(i);
    const auto want = i < 2        ? AttentionKind::kWindow
                      : i % 2 == 0 ? AttentionKind::kCsa
                                   : AttentionKind::kHca;
    EXPECT_EQ(layer.attention, want) << i;
    EXPECT_EQ(layer.ratio, i < 2 ? 0 : i % 2 == 0 ? 4 : 128) << i;
    EXPECT_EQ(layer.routing, i < 3 ? RoutingKind::kHash : RoutingKind::kLearned) << i;
  }
  EXPECT_EQ(config.mtp_layer().attention, AttentionKind::kWindow);
  EXPECT_EQ(config.mtp_layer().routing, RoutingKind::kLearned);
  EXPECT_EQ(config.num_streams(), 4);
}

TEST(ReleasedModels, ProHasItsLayers) {
  const auto config = released("pro.yaml");
  ASSERT_EQ(config.num_hidden_layers, 61);
  for (int64_t i = 0; i < 61; ++i) {
    const bool csa = i >= 2 && i % 2 == 0;
    EXPECT_EQ(config.layer(i).attention, csa ? AttentionKind::kCsa : AttentionKind::kHca) << i;
  }
  EXPECT_EQ(config.mtp_layer().attention, AttentionKind::kWindow);
  EXPECT_EQ(config.index_topk, 1024);
  EXPECT_EQ(config.vocab_size, 129280) << "inherited from flash.yaml";
}

TEST(ReleasedModels, SmallOnesAreValid) {
  for (const auto* name : {"small.yaml", "tiny.yaml"}) {
    const auto config = released(name);
    std::set<AttentionKind> kinds;
    for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
      kinds.insert(config.layer(i).attention);
    }
    EXPECT_EQ(kinds.size(), 3u) << name << " should show window, CSA and HCA";
  }
}

TEST(LayerKinds, ComeFromTheRatiosUnlessLayerTypesSayOtherwise) {
  ModelConfig config;
  config.num_hidden_layers = 4;
  config.compress_ratios = {0, 4, 3, 128};
  using enum AttentionKind;
  const auto kinds = [&] {
    std::vector<AttentionKind> result;
    for (int64_t i = 0; i < 4; ++i) {
      result.push_back(config.layer(i).attention);
    }
    return result;
  };
  EXPECT_EQ(kinds(), (std::vector{kWindow, kCsa, kHca, kHca}));
  config.layer_types = {kFull, kHca, kCsa, kWindow};
  config.validate();
  EXPECT_EQ(kinds(), config.layer_types);
  EXPECT_EQ(config.layer(1).ratio, 4);
  EXPECT_EQ(config.layer(2).ratio, 3);
  EXPECT_EQ(config.layer(3).ratio, 0) << "a window layer has no ratio";
}

TEST(LayerKinds, OfAModelOfFullLayersMakeItsMtpBlockFull) {
  const auto config = testing::tiny_config({AttentionKind::kFull, AttentionKind::kFull});
  EXPECT_EQ(config.mtp_layer().attention, AttentionKind::kFull);
}

TEST(Routing, OfSingleLayersOverridesTheNumberOfHashLayers) {
  auto config = testing::tiny_config();
  config.routing = {
      RoutingKind::kLearned, RoutingKind::kHash, RoutingKind::kLearned, RoutingKind::kLearned};
  config.validate();
  EXPECT_EQ(config.layer(0).routing, RoutingKind::kLearned);
  EXPECT_EQ(config.layer(1).routing, RoutingKind::kHash);
}

struct BadConfig {
  const char* key;
  std::function<void(ModelConfig&)> spoil;
};

TEST(ModelConfig, ThatCannotWorkIsRefusedWithItsKey) {
  const std::vector<BadConfig> cases = {
      {"num_experts_per_tok", [](auto& c) { c.num_experts_per_tok = 5; }},
      {"o_groups", [](auto& c) { c.o_groups = 3; }},
      {"qk_rope_head_dim", [](auto& c) { c.qk_rope_head_dim = 3; }},
      {"qk_rope_head_dim", [](auto& c) { c.qk_rope_head_dim = 10; }},
      {"index_head_dim", [](auto& c) { c.index_head_dim = 2; }},
      {"num_hash_layers", [](auto& c) { c.num_hash_layers = 5; }},
      {"compress_ratios",
       [](auto& c) {
         c.compress_ratios = {0, 4};
       }},
      {"compress_ratios",
       [](auto& c) {
         c.compress_ratios = {0, 4, 6, 4, 4};
       }},
      {"compress_ratios",
       [](auto& c) {
         c.compress_ratios = {0, -4, 6, 4};
       }},
      {"compress_ratios", [](auto& c) { c.compress_ratios.clear(); }},
      {"layer_types", [](auto& c) { c.layer_types = {AttentionKind::kFull}; }},
      {"compress_ratios", [](auto& c) { c.layer_types.assign(4, AttentionKind::kCsa); }},
      {"routing", [](auto& c) { c.routing = {RoutingKind::kHash}; }},
      {"rope_scaling.beta_fast", [](auto& c) { c.rope_scaling.beta_fast = 0.5; }},
  };
  for (std::size_t i = 0; i < cases.size(); ++i) {
    auto config = testing::tiny_config();
    config.validate();
    cases[i].spoil(config);
    try {
      config.validate();
      ADD_FAILURE() << "case " << i << " (" << cases[i].key << ") passed";
    } catch (const ConfigError& error) {
      EXPECT_EQ(error.key(), std::string("model.") + cases[i].key) << "case " << i;
      EXPECT_FALSE(error.message().empty());
    }
  }
}

TEST(ModelConfig, IsCheckedBeforeAnythingIsBuilt) {
  auto config = testing::tiny_config();
  config.num_experts_per_tok = 5;
  EXPECT_THROW(Transformer(config, at::kDouble, 0), ConfigError);
}

}  // namespace
}  // namespace braid
