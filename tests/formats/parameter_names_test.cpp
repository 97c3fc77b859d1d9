// The table of parameters (core/parameter_names.h) against every model that can be built, and
// against the names of published files.
#include "core/parameter_names.h"

#include <map>
#include <set>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include "checkpoint/names.h"
#include "checkpoint/release_layout.h"
#include "checkpoint/safetensors.h"
#include "core/file.h"
#include "formats/release_tensors.h"
#include "kernels/codec.h"
#include "model/transformer.h"
#include "optim/param_groups.h"
#include "tests/support/compare.h"
#include "tests/train/tiny_run.h"

namespace braid {
namespace {

using namespace testing;

/// Layers of every attention kind and routing, every residual, with and without the MTP block.
std::vector<ModelConfig> every_model() {
  std::vector<ModelConfig> models;
  for (const auto& [residual, residual_kind] : enum_names(ResidualKind{})) {
    for (const int64_t mtp_blocks : {0, 1}) {
      auto model = tiny_model();
      model.residual = residual_kind;
      model.num_nextn_predict_layers = mtp_blocks;
      model.layer_types.clear();
      model.compress_ratios.clear();
      for (const auto& [name, kind] : enum_names(AttentionKind{})) {
        model.layer_types.push_back(kind);
        model.compress_ratios.push_back(kind == AttentionKind::kCsa   ? 4
                                        : kind == AttentionKind::kHca ? 8
                                                                      : 0);
      }
      model.num_hidden_layers = static_cast<int64_t>(model.layer_types.size());
      models.push_back(model);
    }
  }
  return models;
}

/// The rows whose pattern is this name's, found without the table's own search.
std::vector<const ParameterKind*> rows_matching(const std::string& name) {
  std::vector<const ParameterKind*> rows;
  for (const auto& kind : parameter_kinds()) {
    std::vector<std::string> before;
    if (kind.place == ParameterPlace::kTop) {
      before = {""};
    } else if (kind.place == ParameterPlace::kBlock) {
      before = {"layers.?.", "mtp.?."};
    } else {
      before = {"mtp.?."};
    }
    for (const auto& prefix : before) {
      if (matches_glob(prefix + std::string(kind.name), name)) {
        rows.push_back(&kind);
      }
    }
  }
  return rows;
}

TEST(ParameterNames, EveryParameterOfEveryModelIsExactlyOneRowAndNoRowIsLeftOver) {
  std::set<const ParameterKind*> used;
  const WithoutValues without_values;
  for (const auto& config : every_model()) {
    const Transformer model(config, at::kFloat, 0);
    for (const auto& parameter : model.parameters().all()) {
      const auto rows = rows_matching(parameter.name);
      ASSERT_EQ(rows.size(), 1u) << parameter.name;
      EXPECT_EQ(kind_of(parameter.name), rows[0]) << parameter.name;
      used.insert(rows[0]);
      const auto& kind = *rows[0];
      EXPECT_EQ(kind.optimizer != OptimizerKind::kNone, parameter.trained) << parameter.name;
      EXPECT_EQ(kind.is_expert(), is_stack(parameter.name)) << parameter.name;
      EXPECT_EQ(kind.role == ParameterRole::kTable, !parameter.value.is_floating_point())
          << parameter.name;
      EXPECT_TRUE(!kind.may_be_quantized() || kind.is_linear()) << parameter.name;
      const int64_t dimensions = parameter.value.dim() - (is_stack(parameter.name) ? 1 : 0);
      EXPECT_TRUE(kind.optimizer != OptimizerKind::kMuon || dimensions == 2) << parameter.name;
      EXPECT_TRUE(!kind.is_linear() || dimensions == 2) << parameter.name;
    }
  }
  for (const auto& kind : parameter_kinds()) {
    EXPECT_TRUE(used.contains(&kind)) << kind.name << " is in no model";
  }
}

TEST(ParameterNames, EveryAdapterOfEveryModelIsKnownByTheMatrixThatHasIt) {
  const WithoutValues without_values;
  LoraConfig lora;
  lora.targets.items = {"all"};
  for (const auto& config : every_model()) {
    const Transformer model(config, at::kFloat, 0, nullptr, {}, at::kCPU, lora);
    int64_t adapted = 0, factors = 0;
    for (const auto& parameter : model.parameters().all()) {
      const auto& name = parameter.name;
      if (const auto matrix = lora_matrix(lora, name)) {
        ++adapted;
        for (const auto& factor : {matrix->a_name, matrix->b_name}) {
          ASSERT_TRUE(is_adapter(factor)) << factor;
          EXPECT_EQ(part_of(factor), part_of(name)) << factor;
          EXPECT_EQ(kind_of(factor)->optimizer, OptimizerKind::kAdamW) << factor;
          EXPECT_FALSE(kind_of(factor)->is_published()) << factor;
          EXPECT_EQ(is_expert(factor), is_expert(name)) << factor;
          EXPECT_FALSE(release_name(factor)) << factor;
        }
      } else {
        EXPECT_EQ(is_adapter(name), name.find(".lora_") != std::string::npos) << name;
        factors += is_adapter(name) ? 1 : 0;
      }
    }
    EXPECT_GT(adapted, 40);
    // w1 and w3 share an A.
    EXPECT_EQ(factors, 2 * adapted - config.num_hidden_layers - config.num_nextn_predict_layers);
  }
}

TEST(ParameterNames, WhatMayBeQuantizedIsWhatAModelKeepsAsCodes) {
  auto config = tiny_model();
  config.hidden_size = config.moe_intermediate_size = 32;
  std::map<std::string, Weight> codes;  // of every matrix
  const Transformer model(config, at::kFloat, 0);
  for (const auto& [name, value] : model.parameters().tensors()) {
    const bool is_matrix = value.dim() == 2 && value.is_floating_point();
    const auto encoded = is_matrix ? encode_fp8(value, at::kFloat) : Codes{};
    codes[name] = is_matrix ? Weight(encoded.values, encoded.scales) : Weight(value);
  }
  const WeightSource source{.read = [&](const std::string& name) { return codes.at(name); },
                            .is_frozen = [](const std::string&) { return true; }};
  const Transformer frozen(config, at::kFloat, 0, &source);
  for (const auto& parameter : frozen.parameters().all()) {
    EXPECT_EQ(kind_of(parameter.name)->may_be_quantized(), !parameter.quantized.empty())
        << parameter.name;
    EXPECT_TRUE(parameter.in_base) << parameter.name;
  }
}

TEST(ParameterNames, TranslateToHuggingFaceAndBack) {
  const WithoutValues without_values;
  for (const auto& config : every_model()) {
    std::map<std::string, NamedTensor> of_hf;
    for (const auto& [name, value] : Transformer(config, at::kFloat, 0).parameters().tensors()) {
      const auto& kind = *kind_of(name);
      EXPECT_EQ(release_name(name).has_value(), kind.is_published()) << name;
      const auto place = hf_place(name);
      EXPECT_EQ(place.has_value(), kind.is_published() && !is_mtp(name)) << name;
      if (place && place->expert < 0) {
        EXPECT_EQ(release_name(place->name), name);
      } else if (place) {
        const int64_t rows = value.size(0) * (place->in_half ? 2 : 1);
        of_hf[place->name] = {place->name,
                              at::empty({config.n_routed_experts, rows, value.size(1)})};
      }
    }
    std::set<std::string> experts;
    for (const auto& [name, stack] : of_hf) {
      for (const auto& tensor : release_tensors({stack}).tensors) {
        EXPECT_EQ(hf_place(tensor.name)->name, name);
        EXPECT_TRUE(experts.insert(tensor.name).second) << tensor.name;
      }
    }
    EXPECT_EQ(static_cast<int64_t>(experts.size()),
              config.n_routed_experts * config.num_hidden_layers * 3);
  }
}

TEST(ParameterNames, KnowEveryTensorOfAPublishedCheckpointAndHowItIsStored) {
  const SafetensorsFile file(std::string(BRAID_TEST_DATA) + "/golden/release_tiny");
  ASSERT_GT(file.names().size(), 100u);
  for (const auto& name : file.names()) {
    EXPECT_EQ(release_name(name), name);
    const auto parsed = parsed_name(name);
    ASSERT_TRUE(parsed) << name;
    EXPECT_EQ(parsed->is_scale, is_scale(name)) << name;
    const auto type = file.dtype(name);
    const bool codes = type == at::kFloat8_e4m3fn || type == at::kChar || type == at::kByte;
    EXPECT_EQ(codes, parsed->kind->may_be_quantized() && !parsed->is_scale) << name;
    if (codes) {
      EXPECT_TRUE(file.contains(scale_name(name))) << name;
    }
  }
}

TEST(ParameterNames, AreTakenApart) {
  const auto scale = parsed_name("layers.12.ffn.experts.103.w2.scale");
  ASSERT_TRUE(scale);
  EXPECT_EQ(scale->kind->name, "ffn.experts.*.w2.weight");
  EXPECT_EQ(scale->block, "layers.12.");
  EXPECT_EQ(scale->layer, 12);
  EXPECT_EQ(scale->expert, "103");
  EXPECT_TRUE(scale->is_scale);
  const auto stack = parsed_name("mtp.0.ffn.experts.16+*.w1.weight");
  ASSERT_TRUE(stack);
  EXPECT_EQ(stack->layer, -1);
  EXPECT_EQ(stack->expert, "16+*");
  EXPECT_TRUE(is_expert("mtp.0.ffn.experts.16+*.w1.weight"));
  EXPECT_FALSE(is_expert("layers.0.ffn.shared_experts.w1.weight"));
  EXPECT_EQ(part_of("mtp.0.attn.wq_a.weight"), ModelPart::kMtp);
  EXPECT_EQ(part_of("layers.1.attn.indexer.compressor.norm.weight"), ModelPart::kIndexer);
  EXPECT_EQ(kind_of("layers.0.attn.wq_a.scale"), nullptr);
  for (const auto* unknown : {"layers.0.embed.weight",
                              "layers.01.attn.wq_a.weight",
                              "layers.0.ffn.experts.+*.w1.weight",
                              "layers.0.e_proj.weight",
                              "mtp.0.embed.weight",
                              "attn.wq_a.weight",
                              "layers.0",
                              ""}) {
    EXPECT_FALSE(parsed_name(unknown)) << unknown;
  }
  expect_mentions(error_of([] { part_of("layers.0.attn.new.weight"); }),
                  {"layers.0.attn.new.weight", "core/parameter_names.cpp"});
  EXPECT_EQ(with_starred_expert("optimizer/layers.0.ffn.experts.17.w1.weight/momentum"),
            "optimizer/layers.0.ffn.experts.*.w1.weight/momentum");
}

}  // namespace
}  // namespace braid
