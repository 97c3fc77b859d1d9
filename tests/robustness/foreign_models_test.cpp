// Folders of models from elsewhere: what Braid does not implement is refused by name, what does not
// matter is passed over.
#include <cstring>

#include <ATen/ATen.h>

#include "tests/robustness/model_folders.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::expect_mentions;

class ForeignModels : public testing::ModelFolders {};

TEST_F(ForeignModels, AKeyThatChangesTheComputationIsRefusedByEveryCommand) {
  const auto model = release("m");
  set_key(model, "attention_bias", "true");
  const std::vector<std::string> said = {"m/config.json", "'attention_bias' is true", "false only"};
  expect_error(braid({"inspect", "m"}), said);
  expect_error(generate("m"), said);
  expect_error(braid({"convert", "m", "out", "--to", "hf"}), said);
  EXPECT_FALSE(fs::exists(folder_ / "out")) << "nothing is written";
}

TEST_F(ForeignModels, NumbersOutOfRangeAreNamedWithFileAndKey) {
  const auto model = release("m");
  const auto original = read_file(model / "config.json");
  for (const auto& [key, value] : {std::pair{"o_groups", "0"},
                                   {"sliding_window", "0"},
                                   {"rope_theta", "-1"},
                                   {"swiglu_limit", "-1"},
                                   {"hidden_size", "-32"}}) {
    set_key(model, key, value);
    expect_error(braid({"inspect", "m"}), {key, "m/config.json", "must be", value});
    write_file_atomically(model / "config.json", original);
  }
}

TEST_F(ForeignModels, AnUnknownKeyIsNamedInANote) {
  set_key(release("m"), "sparkle", "3");
  const auto outcome = generate("m", {"--tokenizer", "bytes"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  expect_mentions(outcome.err, {"note: ", "m/config.json", "passes over: sparkle"});
  expect_mentions(braid({"inspect", "m"}).out, {"unknown keys", "sparkle"});
}

TEST_F(ForeignModels, AnotherArchitectureIsRefusedByName) {
  const auto model = release("m");
  set_key(model, "model_type", "\"deepseek_v41\"");
  expect_error(generate("m"), {"'model_type' is \"deepseek_v41\"", "DeepSeek-V4.1 is another"});
}

TEST_F(ForeignModels, AForeignTensorHidesNoOther) {
  const auto model = release("m");
  auto tensors = SafetensorsFile(model).views();
  tensors.push_back({"layers.1.extra", at::zeros({4}, at::kInt)});
  fs::create_directory(folder_ / "f");
  fs::copy(model / "config.json", folder_ / "f");
  const auto file = folder_ / "f/model.safetensors";
  write_safetensors(file, tensors);
  const auto rename_dtype =
      [&](const std::string& name, const std::string& from, const std::string& to) {
        auto bytes = read_file(file);
        const auto at = bytes.find(from, bytes.find('"' + name + '"'));
        bytes.replace(at, from.size(), to);
        write_file_atomically(file, bytes);
      };
  rename_dtype("layers.1.extra", "I32", "U32");

  const auto inspected = braid({"inspect", "f", "--verify"});
  EXPECT_EQ(inspected.status, 0) << inspected.err << inspected.out;
  expect_mentions(inspected.out, {"layers.1.extra", "U32 (foreign)", "layers.1.attn.wq_a.weight"});
  const auto outcome = generate("f", {"--tokenizer", "bytes"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  expect_mentions(outcome.err, {"no layer needs: layers.1.extra (U32)"});

  rename_dtype("layers.1.attn.wkv.weight", "F8_E4M3", "F8_E5M2");  // needed
  expect_error(generate("f"), {"'layers.1.attn.wkv.weight' is F8_E5M2", "Braid does not read"});
  expect_mentions(braid({"inspect", "f"}).out, {"F8_E5M2 (foreign)"});
}

TEST_F(ForeignModels, MissingShardsAreToldAtOnce) {
  const auto model = release("m", quantizable_model(), 20'000);
  std::vector<fs::path> shards;
  for (const auto& entry : fs::directory_iterator(model)) {
    if (entry.path().extension() == ".safetensors") {
      shards.push_back(entry.path());
    }
  }
  std::ranges::sort(shards);
  ASSERT_GE(shards.size(), 4u);
  const std::string pointer =
      "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 40000\n";
  const auto first = read_file(shards[0]), second = read_file(shards[1]);
  write_file_atomically(shards[0], pointer);
  expect_error(generate("m"), {shards[0].filename(), "Git LFS pointer", "git lfs pull"});
  write_file_atomically(shards[1], pointer);
  expect_error(generate("m"),
               {text("2 of the ", shards.size(), " shards"), "cannot be read", "Git LFS pointer"});
  write_file_atomically(shards[0], first);
  write_file_atomically(shards[1], second);
  fs::remove(shards[1]);
  fs::remove(shards[3]);
  expect_error(generate("m"),
               {text("2 of the ", shards.size(), " shards"),
                "are missing",
                shards[1].filename(),
                shards[3].filename(),
                "fetch them again"});
  fs::remove(model / "model.safetensors.index.json");
  expect_error(generate("m"), {"model.safetensors.index.json", "download the index too"});
}

TEST_F(ForeignModels, LayersAndExpertsBeyondTheConfigurationAreCounted) {
  const auto model = release("m");
  const auto original = read_file(model / "config.json");
  edit_config(model, [](auto& json) {
    json["num_hidden_layers"] = 2;
    json["layer_types"].erase(2);
  });
  expect_error(generate("m"), {"hold layers 0 to 2", "num_hidden_layers 2"});
  write_file_atomically(model / "config.json", original);
  set_key(model, "n_routed_experts", "3");
  expect_error(generate("m"), {"hold experts 0 to 3", "n_routed_experts 3"});
  set_key(model, "n_routed_experts", "16777216");
  expect_error(generate("m"), {"hold experts 0 to 3", "n_routed_experts 16777216"});
}

TEST_F(ForeignModels, ADsparkDrafterIsCarriedAlong) {
  auto plain = quantizable_model();
  const auto model = release("m", plain);  // with an MTP block
  auto tensors = SafetensorsFile(model).views();
  std::vector<NamedTensor> more = {
      {"mtp.0.main_norm.weight", at::arange(32).to(at::kBFloat16)},
      {"mtp.1.markov_head.markov_w1.weight", at::arange(64).view({8, 8}).to(at::kBFloat16)},
      {"mtp.1.attn.attn_sink", at::arange(2).to(at::kFloat)}};
  tensors.insert(tensors.end(), more.begin(), more.end());
  fs::create_directory(folder_ / "d");
  fs::copy(model / "config.json", folder_ / "d");
  write_safetensors(folder_ / "d/model.safetensors", tensors);
  edit_config(folder_ / "d", [](auto& json) {
    json["dspark_block_size"] = 5;
    if (json.contains("compress_ratios")) {
      json["compress_ratios"].push_back(0);
    }
  });

  const auto inspected = braid({"inspect", "d"});
  EXPECT_EQ(inspected.status, 0) << inspected.err;
  expect_mentions(inspected.out, {"DSpark, blocks: 2", "differences", "none"});
  expect_converted("d", "back", "release", {"DSpark drafter of 2 blocks"});
  expect_converted("d", "checkpoint", "checkpoint");
  expect_converted("checkpoint", "again", "release");
  expect_converted("d", "hf", "hf", {"left out"});
  EXPECT_EQ(read_file(folder_ / "back/config.json"), read_file(folder_ / "d/config.json"));
  for (const char* name : {"back", "again"}) {
    const SafetensorsFile got(folder_ / name), want(folder_ / "d");
    ASSERT_EQ(got.names().size(), want.names().size()) << name;
    for (const auto& tensor : want.names()) {
      const auto a = got.view(tensor), b = want.view(tensor);
      EXPECT_TRUE(a.nbytes() == b.nbytes() && a.scalar_type() == b.scalar_type() &&
                  std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0)
          << tensor;
    }
  }
  const auto trained = braid({"train",
                              "run.yaml",
                              "--set",
                              "run.name=tuned",
                              "--set",
                              "run.init_from=d",
                              "--set",
                              "model=from_base"});
  EXPECT_EQ(trained.status, 0) << trained.err;
  expect_mentions(trained.out, {"note: ", "DSpark drafter of 2 blocks"});
  expect_converted("runs/tuned", "tuned", "release");
  const SafetensorsFile tuned(folder_ / "tuned");
  for (const auto& [name, value] : more) {
    EXPECT_TRUE(tuned.contains(name) && tuned.view(name).equal(value)) << name;
  }
  const auto json = nlohmann::json::parse(read_file(folder_ / "tuned/config.json"));
  EXPECT_EQ(json.at("dspark_block_size"), 5);
  EXPECT_EQ(generate("tuned").status, 0);
}

}  // namespace
}  // namespace braid
