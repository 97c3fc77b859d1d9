// Checkpoints as they are published and repacked today: those with a DSpark drafter open, others
// are named for what they are.
#include <cstring>

#include <ATen/ATen.h>

#include "tests/robustness/model_folders.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::expect_mentions;
using testing::Outcome;

class PublishedModels : public testing::ModelFolders {
 protected:
  /// The miniature, under this name.
  fs::path miniature(const std::string& name) const {
    const auto path = folder_ / name;
    fs::copy(fs::path(BRAID_TEST_DATA) / "dspark", path);
    return path;
  }

  void expect_same_tensors(const std::string& a, const std::string& b, bool drafter_alone) const {
    const SafetensorsFile got(folder_ / a), want(folder_ / b);
    ASSERT_EQ(got.names().size(), want.names().size());
    for (const auto& name : want.names()) {
      if (drafter_alone && !name.starts_with("mtp.")) {
        continue;
      }
      ASSERT_TRUE(got.contains(name)) << name;
      const auto x = got.view(name), y = want.view(name);
      EXPECT_TRUE(x.sizes() == y.sizes() && x.scalar_type() == y.scalar_type() &&
                  std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0)
          << name;
    }
  }

  Outcome tune(const std::string& base, const std::vector<std::string>& more) const {
    std::vector<std::string> arguments = {"train",
                                          "run.yaml",
                                          "--set",
                                          "run.name=tuned",
                                          "--set",
                                          "run.init_from=" + base,
                                          "--set",
                                          "model=from_base"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return braid(arguments);
  }
};

TEST_F(PublishedModels, ADrafterIsNamedAndNoParameterOfTheModel) {
  miniature("m");
  const auto inspected = braid({"inspect", "m"});
  ASSERT_EQ(inspected.status, 0) << inspected.err;
  expect_mentions(inspected.out,
                  {"DSpark, blocks: 3, 169 tensors",
                   "speculative drafter, carried as it is",
                   "differences",
                   "none"});
  const auto count = [this](const std::string& base) {
    const auto planned = braid({"plan",
                                "run.yaml",
                                "--set",
                                "run.init_from=" + base,
                                "--set",
                                "model=from_base",
                                "--flops-per-second",
                                "1e9",
                                "--json"});
    EXPECT_EQ(planned.status, 0) << planned.err;
    return nlohmann::json::parse(planned.out)
        .at("model_and_operations_per_token")
        .back()
        .at("parameters");
  };
  SafetensorsFile with(folder_ / "m");
  fs::create_directory(folder_ / "without");
  auto tensors = with.views();
  std::erase_if(tensors, [](const auto& tensor) { return tensor.name.starts_with("mtp."); });
  write_safetensors(folder_ / "without/model.safetensors", tensors);
  fs::copy(folder_ / "m/config.json", folder_ / "without");
  EXPECT_EQ(count("m"), count("without"));
}

TEST_F(PublishedModels, ADrafterComesBackByteForByte) {
  miniature("m");
  expect_converted("m", "back", "release", {"DSpark drafter of 3 blocks"});
  expect_same_tensors("back", "m", /*drafter_alone=*/false);
  const auto json = nlohmann::json::parse(read_file(folder_ / "back/config.json"));
  EXPECT_EQ(json, nlohmann::json::parse(read_file(folder_ / "m/config.json")));
}

TEST_F(PublishedModels, ATunedBackboneHasItsDrafterAgain) {
  miniature("m");
  const auto trained = tune("m", {"--set", "train.max_steps=2"});  // all of it is trained
  ASSERT_EQ(trained.status, 0) << trained.err;
  expect_mentions(trained.out, {"DSpark drafter of 3 blocks"});
  expect_converted("runs/tuned", "tuned", "release");
  expect_same_tensors("tuned", "m", /*drafter_alone=*/true);
  const SafetensorsFile before(folder_ / "m"), after(folder_ / "tuned");
  EXPECT_FALSE(after.view("embed.weight").equal(before.view("embed.weight")));
}

TEST_F(PublishedModels, AdaptersOfABackboneBesideADrafterTrain) {
  miniature("m");
  const auto trained = tune("m", {"--set", "train.max_steps=2", "--set", "train.parameters=lora"});
  ASSERT_EQ(trained.status, 0) << trained.err;
  EXPECT_EQ(generate("runs/tuned").status, 0);
  const auto merged = braid({"merge", "m", "runs/tuned", "merged"});
  ASSERT_EQ(merged.status, 0) << merged.err;
  expect_same_tensors("merged", "m", /*drafter_alone=*/true);
}

TEST_F(PublishedModels, ADrafterComesAlongFromRunToRun) {
  miniature("m");
  ASSERT_EQ(tune("m", {"--set", "train.max_steps=1"}).status, 0);
  const auto further =
      tune("runs/tuned", {"--set", "train.max_steps=1", "--set", "run.name=further"});
  ASSERT_EQ(further.status, 0) << further.err;
  expect_converted("runs/further", "released", "release", {"DSpark drafter of 3 blocks"});
  expect_same_tensors("released", "m", /*drafter_alone=*/true);
}

// A run that trains everything, also indexers and all routers, keeps nothing in its base.
TEST_F(PublishedModels, ADrafterThatDoesNotComeAlongIsNamed) {
  auto model = quantizable_model();
  model.num_hash_layers = model.num_nextn_predict_layers = 0;
  model.routing.clear();
  synthesize_release(folder_ / "m",
                     model,
                     {.expert_layers = {0, 1, 2}, .drafter_blocks = 1, .seed = 5, .progress = {}});
  const auto trained =
      tune("m", {"--set", "train.max_steps=1", "--set", "loss.indexer_mode=sparse"});
  ASSERT_EQ(trained.status, 0) << trained.err;
  expect_converted("runs/tuned", "released", "release", {"drafter does not come along"});
  EXPECT_EQ(braid({"inspect", "released"}).out.find("DSpark"), std::string::npos);
}

TEST_F(PublishedModels, SynthesizeMakesADrafter) {
  write("model.yaml",
        "model: {" + std::string("hidden_size: 32, moe_intermediate_size: 32, "
                                 "num_hidden_layers: 3, num_attention_heads: 2, "
                                 "head_dim: 8, qk_rope_head_dim: 4, q_lora_rank: 8, "
                                 "o_groups: 2, o_lora_rank: 8, sliding_window: 8, "
                                 "compress_ratios: [0, 0, 4], index_n_heads: 2, "
                                 "index_head_dim: 8, index_topk: 2, "
                                 "n_routed_experts: 4, num_experts_per_tok: 2, "
                                 "num_hash_layers: 1, vocab_size: 320}\n"));
  const auto made = braid({"synthesize", "s", "--model", "model.yaml", "--drafter-blocks", "3"});
  ASSERT_EQ(made.status, 0) << made.err;
  miniature("m");
  const SafetensorsFile got(folder_ / "s"), want(folder_ / "m");
  EXPECT_EQ(std::set<std::string>(got.names().begin(), got.names().end()),
            std::set<std::string>(want.names().begin(), want.names().end()));
  for (const auto& name : want.names()) {
    ASSERT_TRUE(got.contains(name)) << name;
    EXPECT_EQ(got.shape(name), want.shape(name)) << name;
    EXPECT_EQ(got.dtype_text(name), want.dtype_text(name)) << name;
  }
  EXPECT_EQ(nlohmann::json::parse(read_file(folder_ / "s/config.json")).at("compress_ratios"),
            nlohmann::json::parse(R"([0, 0, 4, 0, 0, 0])"));
  EXPECT_EQ(generate("s", {"--tokenizer", "bytes"}).status, 0);
}

TEST_F(PublishedModels, NewerModelsAndOtherFamiliesAreNamed) {
  const auto model = release("m");
  const auto original = read_file(model / "config.json");
  const auto refused = [&](const std::vector<std::string>& said) {
    expect_error(generate("m"), said);
    write_file_atomically(model / "config.json", original);
  };
  set_key(model, "text_config", R"({"model_type": "deepseek_v41_text"})");
  set_key(model, "model_type", "\"deepseek_v41\"");
  refused({"'model_type' is \"deepseek_v41\"", "DeepSeek-V4.1", "CSA2", "Engram", "expected the"});
  set_key(model, "model_type", "\"deepseek_v4\"");
  set_key(model, "vision_config", "{}");
  refused({"text and images (vision_config)", "DeepSeek-V4-Flash-Vision", "expected the folder"});
  for (const std::string family : {"llama", "deepseek_v3"}) {
    set_key(model, "model_type", '"' + family + '"');
    refused({"'model_type' is \"" + family + "\"", "another family", "expected the folder"});
  }
  set_key(model, "quantization_config", R"({"quant_method": "modelopt", "quant_algo": "NVFP4"})");
  refused({"modelopt", "NVFP4", "repack", "take the original folder"});
  write_file_atomically(model / "hf_quant_config.json", "{}");
  refused({"hf_quant_config.json", "repack"});
}

TEST_F(PublishedModels, TensorsOfVariantsAreNamed) {
  const auto model = release("m");
  const auto tensors = SafetensorsFile(model).views();
  for (const auto& [name, said] : {std::pair{"layers.1.ffn.gate.bias_vl", "biases for images"},
                                   {"vision.blocks.0.weight", "a vision tower"},
                                   {"layers.1.engram.table", "Engram tables"},
                                   {"layers.0.attn.wq_a.weight_scale_2", "NVFP4"}}) {
    fs::remove_all(folder_ / "v");
    fs::create_directory(folder_ / "v");
    fs::copy(model / "config.json", folder_ / "v");
    auto more = tensors;
    more.push_back({name, at::zeros({4})});
    write_safetensors(folder_ / "v/model.safetensors", more);
    expect_error(generate("v"), {name, said, "does not implement"});
  }
}

TEST_F(PublishedModels, EveryMissingShardIsNamed) {
  const auto model = release("m", quantizable_model(), 10'000);
  std::vector<std::string> shards;
  for (const auto& entry : fs::directory_iterator(model)) {
    if (entry.path().extension() == ".safetensors") {
      shards.push_back(entry.path().filename());
    }
  }
  ASSERT_GE(shards.size(), 8u);
  for (const auto& shard : shards) {
    write_file_atomically(model / shard, "version https://git-lfs.github.com/spec/v1\n");
  }
  auto said = shards;
  said.push_back("each is a Git LFS pointer");
  expect_error(generate("m"), said);
  for (const auto& shard : shards) {
    fs::remove(model / shard);
  }
  said.back() = "are missing";
  expect_error(generate("m"), said);
}

}  // namespace
}  // namespace braid
