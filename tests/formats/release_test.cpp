// Published checkpoints: read as they are, against numbers made by other implementations.
#include <algorithm>
#include <filesystem>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "checkpoint/safetensors.h"
#include "core/error.h"
#include "core/file.h"
#include "formats/model_json.h"
#include "formats/open_model.h"
#include "formats/release_tensors.h"
#include "formats/synthesize.h"
#include "inference/probe.h"
#include "run/config.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

std::string golden(const std::string& name) {
  return std::string(BRAID_TEST_DATA) + "/golden/release_tiny/" + name;
}

class ScratchFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "braid-release-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }
  fs::path folder_;
};

at::Tensor ids() {
  return SafetensorsFile(golden("inputs.safetensors")).tensor("input_ids");
}

int64_t quantized_parameters(const Transformer& model) {
  const auto& all = model.parameters().all();
  return std::count_if(
      all.begin(), all.end(), [](const auto& parameter) { return !parameter.quantized.empty(); });
}

TEST(Release, GivesTheGoldenLogitsFromItsCodes) {
  const SafetensorsFile want(golden("golden.safetensors"));
  for (const bool trainable : {false, true}) {
    SCOPED_TRACE(trainable ? "decoded" : "quantized");
    const auto opened = open_model(golden(""), at::kFloat, trainable);
    EXPECT_EQ(quantized_parameters(*opened.model) > 0, !trainable);
    const auto results = probe(*opened.model, ids(), {}, {.mtp = true});
    for (const auto& [name, value] : results) {
      if (name == "logits" || name == "mtp_logits") {
        testing::expect_close(name, value, want.tensor(name), {.absolute = 5e-5, .relative = 1e-5});
      }
    }
  }
}

TEST(Release, QuantizedAndDecodedWeightsAgreeInFloat64) {
  const auto logits = [](bool trainable) {
    return probe(*open_model(golden(""), at::kDouble, trainable).model, ids(), {}, {})
        .front()
        .value;
  };
  testing::expect_close("logits", logits(false), logits(true), {.relative = 1e-12});
}

TEST(Release, ExpectsTheTensorsThatItHolds) {
  const SafetensorsFile file(golden(""));
  const auto config = read_model_json(golden("config.json"));
  ASSERT_EQ(release_layout_of(file), ReleaseLayout::kInstruct);
  const auto expected = release_tensors_of(config, ReleaseLayout::kInstruct);
  EXPECT_EQ(expected.size(), file.names().size());
  EXPECT_EQ(differences_from(expected, file), std::vector<std::string>{});
  EXPECT_EQ(differences_from(release_tensors_of(config, ReleaseLayout::kBase), file).empty(),
            false);
}

TEST_F(ScratchFolder, SynthesizedReleasesAreCompleteAndRun) {
  const auto config = read_model_json(golden("config.json"));
  for (const auto layout : {ReleaseLayout::kInstruct, ReleaseLayout::kBase}) {
    const auto path = folder_ / (layout == ReleaseLayout::kBase ? "base" : "instruct");
    synthesize_release(path,
                       config,
                       {.layout = layout,
                        .expert_layers = {0, 2},
                        .seed = 3,
                        .shard_bytes = 100'000,
                        .progress = {}});
    const SafetensorsFile file(path);
    EXPECT_EQ(release_layout_of(file), layout);
    EXPECT_EQ(differences_from(release_tensors_of(config, layout), file),
              std::vector<std::string>{});
    EXPECT_TRUE(
        file.tensor("layers.1.ffn.experts.0.w1.weight").view(at::kByte).eq(0).all().item<bool>());
    EXPECT_FALSE(
        file.tensor("layers.2.ffn.experts.0.w1.weight").view(at::kByte).eq(0).all().item<bool>());
    const auto opened = open_model(path, at::kFloat);
    const auto logits = probe(*opened.model, ids(), {}, {.mtp = true}).front().value;
    EXPECT_TRUE(logits.isfinite().all().item<bool>());
    EXPECT_GT(logits.std().item<double>(), 0.01);
  }
}

TEST_F(ScratchFolder, CodesWithoutScalesAndMissingTensorsAreToldByName) {
  const SafetensorsFile file(golden(""));
  auto tensors = file.views();
  const auto write = [&](const auto& left_out) {
    std::vector<NamedTensor> kept;
    std::copy_if(tensors.begin(), tensors.end(), std::back_inserter(kept), left_out);
    fs::copy(golden("config.json"), folder_ / "config.json", fs::copy_options::overwrite_existing);
    write_safetensors(folder_ / "model.safetensors", kept);
  };
  const auto message = [&] {
    try {
      open_model(folder_, at::kFloat);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  write([](const auto& t) { return t.name != "layers.1.attn.wq_a.scale"; });
  EXPECT_NE(message().find("layers.1.attn.wq_a.weight holds codes (F8_E4M3)"), std::string::npos)
      << message();
  write([](const auto& t) { return !t.name.starts_with("layers.1.attn.wq_a"); });
  EXPECT_NE(message().find("missing: layers.1.attn.wq_a.weight"), std::string::npos) << message();
}

TEST(ModelJson, WrittenIsReadAgain) {
  for (const auto* name : {"d_mixed", "e_moe_routing", "h_yarn_long", "release_tiny"}) {
    const auto source = std::string(BRAID_TEST_DATA) + "/golden/" + name + "/config.json";
    const auto config = read_model_json(source);
    const fs::path copy =
        fs::temp_directory_path() / text("braid-model-json-", getpid(), "-", name, ".json");
    write_file_atomically(copy, model_json(config, ReleaseLayout::kInstruct, {}));
    const auto again = read_model_json(copy);
    fs::remove(copy);
    EXPECT_EQ(release_tensors_of(again, ReleaseLayout::kBase),
              release_tensors_of(config, ReleaseLayout::kBase));
    for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
      EXPECT_EQ(again.layer(i).attention, config.layer(i).attention) << name << " layer " << i;
      EXPECT_EQ(again.layer(i).ratio, config.layer(i).ratio) << name << " layer " << i;
      EXPECT_EQ(again.layer(i).routing, config.layer(i).routing) << name << " layer " << i;
    }
    EXPECT_EQ(again.rope_scaling.factor, config.rope_scaling.factor);
    EXPECT_EQ(again.index_topk, config.index_topk);
  }
}

TEST(ReleaseTensors, OfFlashAndProAreAsManyAsWerePublished) {
  const auto count = [](const char* model) {
    const auto config =
        load_run_config(std::string(BRAID_TEST_DATA) + "/../../configs/models/" + model, {}).model;
    return release_tensors_of(config, ReleaseLayout::kInstruct).size();
  };
  EXPECT_EQ(count("flash.yaml"), 69187u);
  EXPECT_EQ(count("pro.yaml"), 145116u);
}

}  // namespace
}  // namespace braid
