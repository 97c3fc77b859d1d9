#include "optim/param_groups.h"

#include <map>
#include <set>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "optim/group_table.h"

namespace braid {
namespace {

constexpr auto kMuon = OptimizerKind::kMuon;
constexpr auto kAdamW = OptimizerKind::kAdamW;
constexpr auto kNone = OptimizerKind::kNone;

struct Expected {
  std::string name;
  std::vector<int64_t> shape;
  OptimizerKind optimizer;
  int64_t matrices;  // 0: not on Muon
};

// Every trained name of the release (layer 0 CSA, layer 1 HCA, the MTP block) and of the `hc`
// ablation, with the shapes of a model of width 32, 4 heads of 8 channels, 2 output groups, 3
// experts of width 12.
std::vector<Expected> expected_groups() {
  std::vector<Expected> result = {
      {"embed.weight", {50, 32}, kAdamW, 0},
      {"head.weight", {50, 32}, kAdamW, 0},
      {"norm.weight", {32}, kAdamW, 0},
      {"hc_head_fn", {4, 128}, kMuon, 1},
      {"hc_head_base", {4}, kAdamW, 0},
      {"hc_head_scale", {1}, kAdamW, 0},
      {"mtp.0.e_proj.weight", {32, 32}, kMuon, 1},
      {"mtp.0.h_proj.weight", {32, 32}, kMuon, 1},
      {"mtp.0.enorm.weight", {32}, kAdamW, 0},
      {"mtp.0.hnorm.weight", {32}, kAdamW, 0},
      {"mtp.0.norm.weight", {32}, kAdamW, 0},
      {"mtp.0.hc_head_fn", {4, 128}, kMuon, 1},
      {"mtp.0.hc_head_base", {4}, kAdamW, 0},
      {"mtp.0.hc_head_scale", {1}, kAdamW, 0},
      {"layers.0.attn.compressor.wkv.weight", {16, 32}, kMuon, 2},
      {"layers.0.attn.compressor.wgate.weight", {16, 32}, kMuon, 2},
      {"layers.0.attn.compressor.ape", {4, 16}, kAdamW, 0},
      {"layers.0.attn.compressor.norm.weight", {8}, kAdamW, 0},
      {"layers.0.attn.indexer.wq_b.weight", {24, 10}, kNone, 0},
      {"layers.0.attn.indexer.weights_proj.weight", {4, 32}, kNone, 0},
      {"layers.0.attn.indexer.compressor.wkv.weight", {12, 32}, kNone, 0},
      {"layers.0.attn.indexer.compressor.wgate.weight", {12, 32}, kNone, 0},
      {"layers.0.attn.indexer.compressor.ape", {4, 12}, kNone, 0},
      {"layers.0.attn.indexer.compressor.norm.weight", {6}, kNone, 0},
      {"layers.1.attn.compressor.wkv.weight", {8, 32}, kMuon, 1},
      {"layers.1.attn.compressor.wgate.weight", {8, 32}, kMuon, 1},
      {"layers.1.attn.compressor.ape", {128, 8}, kAdamW, 0},
      {"layers.1.attn.compressor.norm.weight", {8}, kAdamW, 0},
      {"layers.0.hc_attn_norm", {32}, kAdamW, 0},
      {"layers.0.hc_attn_A0", {4, 5}, kAdamW, 0},
      {"layers.0.hc_attn_b0", {4}, kAdamW, 0},
      {"layers.0.hc_attn_W_a", {32, 5}, kMuon, 1},
      {"layers.0.hc_ffn_w_b", {32}, kAdamW, 0},
      {"layers.0.hc_ffn_s_a", {}, kAdamW, 0},
      {"layers.0.hc_ffn_s_b", {}, kAdamW, 0},
  };
  for (const std::string layer : {"layers.0.", "layers.1.", "mtp.0."}) {
    for (const std::string sublayer : {"attn", "ffn"}) {
      result.push_back({layer + sublayer + "_norm.weight", {32}, kAdamW, 0});
      result.push_back({layer + "hc_" + sublayer + "_fn", {24, 128}, kMuon, 1});
      result.push_back({layer + "hc_" + sublayer + "_base", {24}, kAdamW, 0});
      result.push_back({layer + "hc_" + sublayer + "_scale", {3}, kAdamW, 0});
    }
    result.push_back({layer + "attn.wq_a.weight", {10, 32}, kMuon, 1});
    result.push_back({layer + "attn.q_norm.weight", {10}, kAdamW, 0});
    result.push_back({layer + "attn.wq_b.weight", {32, 10}, kMuon, 1});
    result.push_back({layer + "attn.wkv.weight", {8, 32}, kMuon, 1});
    result.push_back({layer + "attn.kv_norm.weight", {8}, kAdamW, 0});
    result.push_back({layer + "attn.wo_a.weight", {14, 16}, kMuon, 2});
    result.push_back({layer + "attn.wo_b.weight", {32, 14}, kMuon, 1});
    result.push_back({layer + "attn.attn_sink", {4}, kAdamW, 0});
    result.push_back({layer + "ffn.gate.weight", {3, 32}, kMuon, 1});
    result.push_back({layer + "ffn.experts.*.w1.weight", {3, 12, 32}, kMuon, 3});
    result.push_back({layer + "ffn.experts.*.w3.weight", {3, 12, 32}, kMuon, 3});
    result.push_back({layer + "ffn.experts.*.w2.weight", {3, 32, 12}, kMuon, 3});
    result.push_back({layer + "ffn.shared_experts.w1.weight", {12, 32}, kMuon, 1});
    result.push_back({layer + "ffn.shared_experts.w3.weight", {12, 32}, kMuon, 1});
    result.push_back({layer + "ffn.shared_experts.w2.weight", {32, 12}, kMuon, 1});
  }
  return result;
}

std::vector<NamedTensor> parameters_of(const std::vector<Expected>& expected) {
  std::vector<NamedTensor> result;
  for (const auto& parameter : expected) {
    result.push_back({parameter.name, at::zeros(parameter.shape, at::kFloat)});
  }
  return result;
}

const GroupingFacts kFacts = {.num_heads = 4, .num_output_groups = 2};

std::map<std::string, GroupedParameter> grouped_by_name(const GroupingFacts& facts,
                                                        const OptimizerConfig& config) {
  std::map<std::string, GroupedParameter> result;
  for (const auto& grouped : group_parameters(parameters_of(expected_groups()), facts, config)) {
    result.emplace(grouped.parameter.name, grouped);
  }
  return result;
}

template <class Action>
std::string error_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(ParamGroups, DefaultsPutEveryReleaseNameWhereItBelongs) {
  const auto groups = grouped_by_name(kFacts, {});
  for (const auto& [name, shape, optimizer, matrices] : expected_groups()) {
    const auto& grouped = groups.at(name);
    EXPECT_EQ(grouped.optimizer, optimizer) << name;
    EXPECT_EQ(grouped.weight_decay, 0.1) << name;
    EXPECT_EQ(grouped.learning_rate_scale, 1) << name;
    if (matrices > 0) {
      EXPECT_EQ(matrices_of(grouped, grouped.parameter.value).size(0), matrices) << name;
    }
  }
}

TEST(ParamGroups, IndexerTrainsWithItsLoss) {
  auto facts = kFacts;
  facts.trained = TrainedParts::all();
  auto groups = grouped_by_name(facts, {});
  const std::string indexer = "layers.0.attn.indexer.";
  EXPECT_EQ(groups.at(indexer + "wq_b.weight").optimizer, kMuon);
  EXPECT_EQ(groups.at(indexer + "wq_b.weight").row_blocks, 1);
  EXPECT_EQ(groups.at(indexer + "weights_proj.weight").optimizer, kMuon);
  EXPECT_EQ(groups.at(indexer + "compressor.wkv.weight").row_blocks, 2);
  EXPECT_EQ(groups.at(indexer + "compressor.wgate.weight").optimizer, kMuon);
  EXPECT_EQ(groups.at(indexer + "compressor.ape").optimizer, kAdamW);
  EXPECT_EQ(groups.at(indexer + "compressor.norm.weight").optimizer, kAdamW);
}

TEST(ParamGroups, IndexerWarmUpFreezesEverythingElse) {
  auto facts = kFacts;
  facts.trained = {TrainedPart::kIndexer};
  for (const auto& [name, grouped] : grouped_by_name(facts, {})) {
    EXPECT_EQ(grouped.optimizer != kNone, name.find(".indexer.") != std::string::npos) << name;
  }
}

TEST(ParamGroups, QueriesCanBeSplitPerHead) {
  const auto groups = grouped_by_name(kFacts, {.query_split = QuerySplit::kPerHead});
  EXPECT_EQ(groups.at("layers.0.attn.wq_b.weight").row_blocks, 4);
}

TEST(ParamGroups, VectorsCanBeExemptFromDecay) {
  const auto groups = grouped_by_name(kFacts, {.weight_decay = 0.2, .decay_vectors = false});
  EXPECT_EQ(groups.at("norm.weight").weight_decay, 0);
  EXPECT_EQ(groups.at("layers.0.hc_ffn_s_a").weight_decay, 0);
  EXPECT_EQ(groups.at("embed.weight").weight_decay, 0.2);
  EXPECT_EQ(groups.at("layers.0.ffn.experts.*.w1.weight").weight_decay, 0.2);
}

TEST(ParamGroups, FirstMatchingGroupOfTheConfigurationWins) {
  const OptimizerConfig config{.groups = {{"layers.0.ffn.gate.weight", kNone, 1, {}},
                                          {"*.ffn.gate.weight", kAdamW, 0.5, 0.0},
                                          {"*.ffn.experts.*", kAdamW, 2, {}},
                                          {"head.weight", kMuon, 1, 0.3}}};
  const auto groups = grouped_by_name(kFacts, config);
  EXPECT_EQ(groups.at("layers.0.ffn.gate.weight").optimizer, kNone);
  EXPECT_EQ(groups.at("layers.1.ffn.gate.weight").optimizer, kAdamW);
  EXPECT_EQ(groups.at("layers.1.ffn.gate.weight").learning_rate_scale, 0.5);
  EXPECT_EQ(groups.at("layers.1.ffn.gate.weight").weight_decay, 0);
  EXPECT_EQ(groups.at("mtp.0.ffn.experts.*.w2.weight").optimizer, kAdamW);
  EXPECT_EQ(groups.at("mtp.0.ffn.experts.*.w2.weight").weight_decay, 0.1);
  EXPECT_EQ(groups.at("head.weight").optimizer, kMuon);
  EXPECT_EQ(groups.at("head.weight").row_blocks, 1);
}

TEST(ParamGroups, AnUnmatchedNameIsAnError) {
  EXPECT_EQ(error_of([] {
              group_parameters({{"layers.0.attn.new.weight", at::zeros({2, 3})}}, kFacts, {});
            }),
            "parameter layers.0.attn.new.weight [2, 3] belongs to no optimizer group; add it to "
            "optimizer.groups");
}

TEST(ParamGroups, AGroupThatDecidesNothingIsAnError) {
  const auto error = [](std::vector<ParameterGroup> groups) {
    return error_of([&] { grouped_by_name(kFacts, {.groups = std::move(groups)}); }).substr(0, 62);
  };
  EXPECT_EQ(error({{"*.gaet.weight", kAdamW, 1, {}}}),
            std::string("optimizer.groups[0].match: '*.gaet.weight' decides for no parameter")
                .substr(0, 62));
  EXPECT_EQ(error({{"*", kAdamW, 1, {}}, {"embed.weight", kNone, 1, {}}}),
            std::string("optimizer.groups[1].match: 'embed.weight' decides for no parameter")
                .substr(0, 62));
}

// What no gradient moves, beside a router of each layer.
std::vector<NamedTensor> routers() {
  return {{"layers.0.ffn.gate.weight", at::zeros({3, 32})},
          {"layers.0.ffn.gate.tid2eid", at::zeros({50, 2}, at::kLong)},
          {"layers.1.ffn.gate.weight", at::zeros({3, 32})},
          {"layers.1.ffn.gate.bias", at::zeros({3})},
          {"mtp.0.ffn.gate.weight", at::zeros({3, 32})},
          {"mtp.0.ffn.gate.bias", at::zeros({3})}};
}

// The routing biases that these groups freeze.
std::set<std::string> frozen_biases(std::vector<ParameterGroup> groups,
                                    const GroupingFacts& facts = kFacts) {
  std::set<std::string> frozen;
  for (const auto& grouped : group_parameters(routers(), facts, {.groups = std::move(groups)})) {
    if (grouped.parameter.name.ends_with(".bias")) {
      EXPECT_TRUE(grouped.is_frozen());
      frozen.insert(grouped.parameter.name);
    }
    EXPECT_FALSE(grouped.parameter.name.ends_with("tid2eid"));
  }
  return frozen;
}

TEST(ParamGroups, ARoutingBiasIsFrozenByNameOrWithItsGate) {
  using Names = std::set<std::string>;
  const std::string of_layer = "layers.1.ffn.gate.bias", of_mtp = "mtp.0.ffn.gate.bias";
  EXPECT_EQ(frozen_biases({}), Names{});
  EXPECT_EQ(frozen_biases({{"*", kAdamW, 1, {}}}), Names{});
  EXPECT_EQ(frozen_biases({{"*.ffn.gate.bias", kNone, 1, {}}}), (Names{of_layer, of_mtp}));
  EXPECT_EQ(frozen_biases({{"mtp.0.ffn.gate.bias", kNone, 1, {}}}), Names{of_mtp});
  EXPECT_EQ(frozen_biases({{"layers.1.ffn.gate.weight", kNone, 1, {}}}), Names{of_layer});
  EXPECT_EQ(frozen_biases({{"*ffn.*", kNone, 1, {}}}), (Names{of_layer, of_mtp}));
  EXPECT_EQ(frozen_biases({{"*.gate.*", kAdamW, 1, {}}}), Names{});
  EXPECT_EQ(frozen_biases({{"*.tid2eid", kNone, 1, {}}}), Names{});
  auto warm_up = kFacts;
  warm_up.trained = {TrainedPart::kIndexer};
  EXPECT_EQ(frozen_biases({}, warm_up), (Names{of_layer, of_mtp}));
}

TEST(ParamGroups, OnlyNoneDecidesForARoutingBias) {
  const auto message = error_of([] { frozen_biases({{"*.gate.bias", kAdamW, 1, {}}}); });
  EXPECT_NE(message.find("'*.gate.bias' decides for no parameter"), std::string::npos) << message;
  EXPECT_NE(message.find("none is the only optimizer"), std::string::npos) << message;
}

TEST(ParamGroups, MuonRefusesWhatIsNotAMatrix) {
  EXPECT_EQ(error_of([] {
              grouped_by_name(kFacts, {.groups = {{"*norm.weight", kMuon, 1, {}}}});
            }),
            "optimizer.groups[0].optimizer: muon trains matrices, but norm.weight has shape [32]; "
            "use adamw "
            "for it");
}

TEST(ParamGroups, RefusesRowsThatDoNotDivide) {
  EXPECT_EQ(error_of([] { grouped_by_name({.num_heads = 4, .num_output_groups = 4}, {}); }),
            "layers.0.attn.wo_a.weight [14, 16] cannot be cut into 4 row blocks");
}

TEST(MatchesGlob, KnowsStarAndQuestionMark) {
  EXPECT_TRUE(matches_glob("*", ""));
  EXPECT_TRUE(matches_glob("a*b*c", "a.b.b.c"));
  EXPECT_TRUE(matches_glob("layers.?.w", "layers.7.w"));
  EXPECT_TRUE(matches_glob("*.experts.*.w1", "layers.0.experts.*.w1"));
  EXPECT_FALSE(matches_glob("layers.?.w", "layers.17.w"));
  EXPECT_FALSE(matches_glob("a*b", "a.b.c"));
  EXPECT_FALSE(matches_glob("embed.weight", "head.weight"));
  EXPECT_FALSE(matches_glob("", "a"));
}

TEST(GroupTable, CollapsesLayersThatAreAlike) {
  std::vector<NamedTensor> parameters = {{"embed.weight", at::zeros({50, 32})}};
  for (const std::string layer : {"0", "1", "2", "5"}) {
    parameters.push_back({"layers." + layer + ".attn.wo_a.weight", at::zeros({14, 16})});
  }
  parameters.push_back({"layers.0.attn.indexer.wq_b.weight", at::zeros({2, 2})});
  parameters.push_back({"mtp.0.ffn.experts.*.w1.weight", at::zeros({3, 4, 8})});
  EXPECT_EQ(
      group_table(group_parameters(parameters, kFacts, {})),
      R"(parameter                          optimizer  shape      tensors  matrices  lr  decay  elements
embed.weight                       adamw      [50, 32]   1        -         1   0.1        1600
layers.{0-2,5}.attn.wo_a.weight    muon       [14, 16]   4        8 x 7x16  1   0.1         896
layers.0.attn.indexer.wq_b.weight  none       [2, 2]     1        -         -   -             4
mtp.0.ffn.experts.*.w1.weight      muon       [3, 4, 8]  1        3 x 4x8   1   0.1          96
)");
}

TEST(GroupSummary, HasALineForEachOptimizerRateAndDecay) {
  std::vector<NamedTensor> parameters = {{"embed.weight", at::zeros({50, 32})}};
  for (const std::string layer : {"0", "1"}) {
    parameters.push_back({"layers." + layer + ".attn.wo_a.weight", at::zeros({14, 16})});
  }
  parameters.push_back({"layers.0.attn.indexer.wq_b.weight", at::zeros({2, 2})});
  parameters.push_back({"layers.0.ffn.experts.*.w1.weight", at::zeros({3, 4, 8})});
  EXPECT_EQ(group_summary(group_parameters(parameters, kFacts, {})),
            R"(optimizer  lr  decay  elements  tensors  parts
adamw      1   0.1        1600        1  embedding
muon       1   0.1         544        3  attention, experts
none       -   -             4        1  indexer
)");
}

TEST(ParamGroups, WhatMayNotBeTrainedIsFrozenWhateverItsGroupSays) {
  const std::vector<NamedTensor> parameters = {
      {"layers.0.attn.wq_a.weight", at::zeros({6, 8})},
      {"layers.0.attn.wq_a.lora_A.weight", at::zeros({2, 8})},
      {"layers.0.attn.wq_a.lora_B.weight", at::zeros({6, 2})},
      {"layers.0.ffn.gate.weight", at::zeros({3, 8})},
      {"layers.0.ffn.gate.bias", at::zeros({3})}};
  auto facts = kFacts;
  facts.may_train = [](const std::string& name) { return name.find(".lora_") != name.npos; };
  OptimizerConfig config;
  config.groups = {{"*.lora_B.weight", kMuon, 2, 0.0}, {"*.attn.*", kAdamW, 1, {}}};
  const auto grouped = group_parameters(parameters, facts, config);
  ASSERT_EQ(grouped.size(), 5u);
  EXPECT_TRUE(grouped[0].is_frozen());
  EXPECT_EQ(grouped[1].optimizer, kAdamW);
  EXPECT_EQ(grouped[2].optimizer, kMuon);
  EXPECT_EQ(grouped[2].learning_rate_scale, 2);
  EXPECT_TRUE(grouped[3].is_frozen());
  EXPECT_EQ(grouped[4].parameter.name, "layers.0.ffn.gate.bias");
  EXPECT_TRUE(grouped[4].is_frozen());
}

TEST(ParamGroups, ThoseOfAdaptersArePassedOverWithoutAdapters) {
  const std::vector<NamedTensor> parameters = {{"layers.0.attn.wq_a.weight", at::zeros({6, 8})}};
  OptimizerConfig config;
  config.groups = {{"*.lora_?.weight", kAdamW, 10, {}}};
  EXPECT_EQ(group_parameters(parameters, kFacts, config)[0].optimizer, kMuon);
  config.groups = {{"*.lorry", kAdamW, 10, {}}};
  EXPECT_THROW(group_parameters(parameters, kFacts, config), ConfigError);
}

}  // namespace
}  // namespace braid
