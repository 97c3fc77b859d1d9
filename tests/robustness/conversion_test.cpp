// What convert writes is what was trained, or is refused.
#include <ATen/ATen.h>
#include <sys/stat.h>

#include "formats/open_model.h"
#include "inference/probe.h"
#include "kernels/fake_quant.h"
#include "tests/robustness/model_folders.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::expect_mentions;

class Conversion : public testing::ModelFolders {
 protected:
  void train_one_step(const std::string& name, std::vector<std::string> settings) const {
    std::vector<std::string> arguments = {"train", "run.yaml"};
    settings.push_back("run.name=" + name);
    settings.emplace_back("train.max_steps=1");
    settings.emplace_back("schedule.warmup_steps=1");
    for (const auto& setting : settings) {
      arguments.insert(arguments.end(), {"--set", setting});
    }
    const auto outcome = braid(arguments);
    ASSERT_EQ(outcome.status, 0) << outcome.err;
  }

  static at::Tensor logits(const fs::path& model) {
    return probe(*open_model(model, at::kFloat).model, at::arange(20).view({1, 20}), {}, {})
        .front()
        .value;
  }

  static int64_t allocated(const fs::path& folder) {
    int64_t bytes = 0;
    for (const auto& entry : fs::directory_iterator(folder)) {
      struct stat status {};
      ::stat(entry.path().c_str(), &status);
      bytes += status.st_blocks * 512;
    }
    return bytes;
  }
};

TEST_F(Conversion, RefusesWhatTransformersWouldComputeDifferently) {
  train_one_step("unshared", {"model.n_shared_experts=0"});
  expect_error(braid({"convert", "runs/unshared", "out", "--to", "hf"}),
               {"model.n_shared_experts is 0", "--to checkpoint"});
  train_one_step("full", {"model.layer_types=[window, csa, full]"});
  expect_error(braid({"convert", "runs/full", "out", "--to", "hf"}),
               {"model.layer_types: layer 2 is full", "--to checkpoint"});
  train_one_step("plain", {"model.residual=plain"});
  for (const char* to : {"hf", "release"}) {
    expect_error(braid({"convert", "runs/plain", "out", "--to", to}),
                 {"model.residual", "--to checkpoint"});
  }
  EXPECT_FALSE(fs::exists(folder_ / "out")) << "nothing is written";
  EXPECT_FALSE(fs::exists(folder_ / "out.partial")) << "nothing is written";
  expect_converted("runs/full", "kept", "checkpoint");
  EXPECT_TRUE(logits(folder_ / "kept").equal(logits(folder_ / "runs/full")));
}

TEST_F(Conversion, WritesExpertsAsTrainingRoundedThem) {
  train_one_step("qat", {"model.qat_experts=fp8"});
  expect_converted("runs/qat", "hf", "hf", {"model.qat_experts rounded them"});
  expect_converted("runs/qat", "release", "release", {"model.qat_experts rounded them"});
  expect_converted("runs/qat", "kept", "checkpoint");
  const auto masters = read_model(folder_ / "runs/qat").weights;
  const std::string name = "layers.1.ffn.experts.2.w1.weight";
  const auto want = fake_quantized(masters.at(name).values, QuantFormat::kFp8);
  EXPECT_FALSE(want.equal(masters.at(name).values));
  EXPECT_TRUE(read_model(folder_ / "hf").weights.at(name).values.equal(want));
  EXPECT_TRUE(read_model(folder_ / "release").weights.at(name).values.equal(want));
  EXPECT_TRUE(read_model(folder_ / "kept").weights.at(name).values.equal(masters.at(name).values));
  testing::expect_close("logits",
                        logits(folder_ / "hf"),
                        logits(folder_ / "runs/qat"),
                        {.absolute = 1e-6, .relative = 1e-6});
}

TEST_F(Conversion, TheTokenizerGoesAlong) {
  train_one_step("run", {});
  write("text.txt", "some words to judge\n");
  const auto want = braid({"evaluate", "runs/run", "--data", "text.txt", "--json"});
  ASSERT_EQ(want.status, 0) << want.err;
  const auto loss_of = [](const std::string& out) {
    return nlohmann::json::parse(out).at("loss").get<double>();
  };
  for (const std::string to : {"hf", "release", "checkpoint"}) {
    expect_converted("runs/run", to, to);
    EXPECT_EQ(generate(to).status, 0) << to;
    const auto got = braid({"evaluate", to, "--data", "text.txt", "--json"});
    ASSERT_EQ(got.status, 0) << got.err;
    EXPECT_NEAR(loss_of(got.out), loss_of(want.out), 1e-5) << to;
  }
  expect_converted("hf", "second", "release");  // and further
  EXPECT_EQ(generate("second").status, 0);

  // Bytes as other programs know them: the same ids.
  const auto with_yaml = braid({"evaluate", "hf", "--data", "text.txt", "--json"});
  fs::remove(folder_ / "hf/braid_tokenizer.yaml");
  const auto with_json = braid({"evaluate", "hf", "--data", "text.txt", "--json"});
  EXPECT_EQ(with_json.out, with_yaml.out);
  EXPECT_EQ(with_json.status, 0) << with_json.err;
  fs::remove(folder_ / "hf/tokenizer.json");
  expect_error(generate("hf"), {"without a tokenizer", "--tokenizer"});
  for (const char* named : {"bytes", "runs/run", "release", "release/braid_tokenizer.yaml"}) {
    EXPECT_EQ(generate("hf", {"--tokenizer", named}).status, 0) << named;
  }
  expect_error(generate("hf", {"--tokenizer", "words"}), {"--tokenizer words", "'bytes'"});
}

TEST_F(Conversion, ATokenizerWithMoreIdsThanTheModelIsRefused) {
  auto model = quantizable_model();
  model.vocab_size = 64;
  release("small", model);
  expect_error(generate("small", {"--tokenizer", "bytes"}), {"64 ids", "320", "--tokenizer"});
}

TEST_F(Conversion, HolesStayHoles) {
  auto model = quantizable_model();
  model.hidden_size = model.moe_intermediate_size = 1024;
  synthesize_release(folder_ / "m", model, {.expert_layers = {}, .seed = 1, .progress = {}});
  expect_converted("m", "checkpoint", "checkpoint");
  EXPECT_LT(allocated(folder_ / "checkpoint"), allocated(folder_ / "m") + 2'000'000);
  expect_converted("checkpoint", "back", "release");
  EXPECT_LT(allocated(folder_ / "back"), allocated(folder_ / "m") + 2'000'000);
  EXPECT_EQ(read_file(folder_ / "back/model.safetensors"),
            read_file(folder_ / "m/model.safetensors"));
}

}  // namespace
}  // namespace braid
