#include "checkpoint/names.h"

#include <algorithm>
#include <map>
#include <set>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "tests/checkpoint/support.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

using namespace testing;

nlohmann::json hf_to_release() {
  return nlohmann::json::parse(read_file(BRAID_TEST_DATA "/names/hf_to_release.json"));
}

TEST(ReleaseName, TranslatesEveryHuggingFaceNameAndLeavesReleaseNames) {
  const auto names = hf_to_release();
  for (const auto& [hf, release] : names.items()) {
    if (release.is_string()) {
      EXPECT_EQ(release_name(hf), release.get<std::string>()) << hf;
      EXPECT_EQ(release_name(release), release.get<std::string>());
      EXPECT_EQ(release_name("model." + release.get<std::string>()), release.get<std::string>());
    } else {
      for (const auto& part : release) {
        EXPECT_EQ(release_name(part[0]), part[0].get<std::string>());
      }
    }
  }
}

TEST(ReleaseName, TranslatesTheHybridsIrregularNames) {
  const std::map<std::string, std::string> expected = {
      {"model.embed_tokens.weight", "embed.weight"},
      {"head.weight", "head.weight"},
      {"model.norm.weight", "norm.weight"},
      {"model.hc_head.hc_fn", "hc_head_fn"},
      {"model.layers.1.attn.norm.weight", "layers.1.attn.kv_norm.weight"},
      {"model.layers.1.attn.compressor.norm.weight", "layers.1.attn.compressor.norm.weight"},
      {"model.layers.1.attn.indexer.compressor.ape", "layers.1.attn.indexer.compressor.ape"},
      {"model.layers.1.hc_ffn_scale", "layers.1.hc_ffn_scale"},
      {"model.layers.12.ffn.experts.103.w2.weight", "layers.12.ffn.experts.103.w2.weight"},
  };
  for (const auto& [hybrid, release] : expected) {
    EXPECT_EQ(release_name(hybrid), release) << hybrid;
  }
}

TEST(ReleaseName, KnowsTheMtpBlockAndQuantizationScales) {
  for (const char* name : {"mtp.0.e_proj.weight",
                           "mtp.0.e_proj.scale",
                           "mtp.0.hc_head_scale",
                           "mtp.0.norm.weight",
                           "mtp.0.attn.wq_a.weight",
                           "mtp.0.ffn.gate.bias",
                           "mtp.0.ffn.experts.3.w1.scale",
                           "layers.2.attn.wkv.scale",
                           "layers.0.ffn.shared_experts.w3.scale"}) {
    EXPECT_EQ(release_name(name), name);
  }
}

TEST(ReleaseName, KnowsNoOtherNames) {
  for (const char* name : {"",
                           "model.",
                           "layers.1",
                           "layers.01.attn.wkv.weight",
                           "layers.x.attn.wkv.weight",
                           "layers..attn.wkv.weight",
                           "layers.1.attn.wkv",
                           "layers.1.attn.wkv.bias",
                           "layers.1.attn.wkv.weight.scale",
                           "model.mtp.0.e_proj.weight",
                           "layers.1.e_proj.weight",
                           "layers.1.ffn.experts.w1.weight",
                           "layers.1.ffn.experts.1.w4.weight",
                           "layers.1.ffn.experts.1.w1.bias",
                           "model.layers.1.mlp.experts.gate_up_proj",
                           "lm_head.bias"}) {
    EXPECT_EQ(release_name(name), std::nullopt) << name;
  }
}

TEST(ReleaseName, KnowsTheScalesOfEarlierModels) {
  EXPECT_EQ(release_name("model.layers.2.self_attn.kv_proj.weight_scale_inv"),
            "layers.2.attn.wkv.scale");
  EXPECT_EQ(release_name("layers.2.attn.attn_sink_scale_inv"), std::nullopt);
}

TEST(HfPlace, IsTheInverseOfReleaseName) {
  const auto names = hf_to_release();
  for (const auto& [hf, release] : names.items()) {
    if (release.is_string()) {
      const auto place = hf_place(release);
      ASSERT_TRUE(place) << release;
      EXPECT_EQ(place->name, hf);
      EXPECT_EQ(place->expert, -1);
      continue;
    }
    for (const auto& part : release) {
      const auto place = hf_place(part[0]);
      ASSERT_TRUE(place) << part[0];
      EXPECT_EQ(place->name, hf);
      EXPECT_EQ(place->expert, part[1].get<int64_t>());
      EXPECT_EQ(place->half, part[2].get<int64_t>() > 0 ? 1 : 0);
      EXPECT_EQ(place->in_half, hf.ends_with("gate_up_proj"));
    }
  }
  for (const char* name :
       {"mtp.0.e_proj.weight", "layers.0.attn.wq_a.scale", "layers.attn.wq_a", ""}) {
    EXPECT_FALSE(hf_place(name)) << name;
  }
}

TEST(ReleaseTensors, TakesStackedExpertsApart) {
  std::vector<NamedTensor> tensors;
  std::map<std::string, at::Tensor> expected;
  const auto names = hf_to_release();
  for (const auto& [hf, release] : names.items()) {
    auto value = at::arange(6, at::kFloat) + static_cast<double>(tensors.size());
    if (release.is_string()) {
      expected[release] = value;
    } else {
      const int64_t experts = release.back()[1].get<int64_t>() + 1, rows = release.back()[3];
      value = at::rand({experts, rows, 3});
      for (const auto& part : release) {
        const int64_t begin = part[2], end = part[3];
        expected[part[0]] = value.select(0, part[1].get<int64_t>()).slice(0, begin, end);
      }
    }
    tensors.push_back({hf, value});
  }
  const auto result = release_tensors(tensors);
  EXPECT_TRUE(result.unknown.empty());
  EXPECT_EQ(result.tensors.size(), expected.size());
  for (const auto& [name, value] : result.tensors) {
    ASSERT_TRUE(expected.count(name)) << name;
    expect_bitwise_equal(name, value, expected[name]);
  }
}

TEST(ReleaseTensors, ListsUnknownKeysAndKeepsTheRest) {
  const auto result =
      release_tensors({{"rotary.inv_freq", at::ones({1})}, {"lm_head.weight", at::ones({2})}});
  EXPECT_EQ(result.unknown, std::vector<std::string>{"rotary.inv_freq"});
  ASSERT_EQ(result.tensors.size(), 1u);
  EXPECT_EQ(result.tensors[0].name, "head.weight");
}

TEST(ReleaseTensors, RefusesTwoKeysForOneTensor) {
  const std::string message = error_of([] {
    release_tensors({{"lm_head.weight", at::ones({2})}, {"head.weight", at::ones({2})}});
  });
  EXPECT_TRUE(contains(message, "'lm_head.weight'") && contains(message, "'head.weight'"))
      << message;
  EXPECT_TRUE(contains(error_of([] {
                         release_tensors({{"layers.0.mlp.experts.down_proj", at::ones({2, 3, 3})},
                                          {"layers.0.ffn.experts.1.w2.weight", at::ones({3, 3})}});
                       }),
                       "layers.0.ffn.experts.1.w2.weight"));
}

TEST(ReleaseTensors, RefusesStacksOfAnotherShape) {
  const std::string key = "model.layers.0.mlp.experts.gate_up_proj";
  for (const auto& stack : {at::ones({2, 3, 4}), at::ones({2, 4})}) {
    const std::string message = error_of([&] { release_tensors({{key, stack}}); });
    EXPECT_TRUE(contains(message, key) && contains(message, "2 * width")) << message;
  }
}

}  // namespace
}  // namespace braid
