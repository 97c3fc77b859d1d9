// Conversions between the published format, Hugging Face's and Braid's own.
#include "formats/convert.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "checkpoint/names.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/store.h"
#include "core/file.h"
#include "core/folder_lock.h"
#include "data/byte_tokenizer.h"
#include "formats/open_model.h"
#include "formats/release_tensors.h"
#include "formats/synthesize.h"
#include "inference/probe.h"
#include "kernels/codec.h"
#include "tests/support/compare.h"
#include "tests/train/tiny_run.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using namespace testing;

fs::path golden(const std::string& name) {
  return fs::path(BRAID_TEST_DATA) / "golden" / name;
}

using ConvertedRun = TinyRun;

class Convert : public CorpusTest {
 protected:
  ConvertReport to(ConvertTo format,
                   const fs::path& source,
                   const std::string& target,
                   StoredAs stored_as = StoredAs::kDefault,
                   std::size_t shard_bytes = 300'000) {
    return convert(
        source,
        folder_ / target,
        {.to = format, .stored_as = stored_as, .shard_bytes = shard_bytes, .progress = {}});
  }
};

bool same_bytes(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() &&
         (a.numel() == 0 || std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0);
}

/// Every tensor of `want` is in `got` with dtype, shape and bytes, and no other is.
void expect_identical_files(const fs::path& got_folder, const fs::path& want_folder) {
  const SafetensorsFile got(got_folder), want(want_folder);
  EXPECT_EQ(got.names().size(), want.names().size());
  for (const auto& name : want.names()) {
    ASSERT_TRUE(got.contains(name)) << name;
    EXPECT_TRUE(same_bytes(got.tensor(name), want.tensor(name))) << name;
  }
}

at::Tensor logits_of(const fs::path& model, const at::Tensor& ids) {
  return probe(*open_model(model, at::kFloat).model, ids, {}, {}).front().value;
}

at::Tensor golden_ids(const std::string& name) {
  return SafetensorsFile(golden(name) / "inputs.safetensors").tensor("input_ids");
}

TEST_F(Convert, ReleaseToCheckpointToReleaseKeepsEveryByte) {
  const auto release = golden("release_tiny");
  const auto there = to(ConvertTo::kCheckpoint, release, "checkpoint");
  EXPECT_GT(there.shards, 3);
  const auto back = to(ConvertTo::kRelease, folder_ / "checkpoint", "release");
  EXPECT_GT(back.shards, 3);
  expect_identical_files(folder_ / "release", release);
  EXPECT_EQ(read_file(folder_ / "release/config.json"), read_file(release / "config.json"));
  for (const auto& c : back.classes) {
    EXPECT_EQ(c.from, c.to) << c.name;
    EXPECT_EQ(c.largest_error, 0) << c.name;
  }
  const auto ids = golden_ids("release_tiny");
  expect_bitwise_equal("logits", logits_of(folder_ / "checkpoint", ids), logits_of(release, ids));
}

TEST_F(Convert, CheckpointsKeepCodesInTheirMapping) {
  to(ConvertTo::kCheckpoint, golden("release_tiny"), "checkpoint");
  const auto stored = read_model(folder_ / "checkpoint");
  const auto& expert = stored.weights.at("layers.0.ffn.experts.1.w2.weight");
  EXPECT_TRUE(expert.quantized() && expert.mapped());
  EXPECT_EQ(expert.values.scalar_type(), at::kChar);
}

TEST_F(Convert, HuggingFacesLayoutHasItsNamesAndGivesTheSameLogits) {
  const auto report =
      to(ConvertTo::kHf, golden("release_tiny"), "hf", StoredAs::kFloat32, 2'000'000);
  EXPECT_TRUE(std::ranges::all_of(report.left_out,
                                  [](const auto& name) { return name.starts_with("mtp.0."); }));
  EXPECT_FALSE(report.left_out.empty());
  const SafetensorsFile file(folder_ / "hf");
  EXPECT_EQ(file.shape("model.layers.0.mlp.experts.gate_up_proj"),
            (std::vector<int64_t>{4, 128, 64}));
  EXPECT_EQ(file.shape("model.layers.0.mlp.experts.down_proj"), (std::vector<int64_t>{4, 64, 64}));
  EXPECT_TRUE(file.contains("lm_head.weight"));
  const auto ids = golden_ids("release_tiny");
  const auto want = SafetensorsFile(golden("release_tiny") / "golden.safetensors").tensor("logits");
  expect_close(
      "logits", logits_of(folder_ / "hf", ids), want, {.absolute = 5e-5, .relative = 1e-5});
}

TEST_F(Convert, HuggingFacesModelsComeBackByteForByte) {
  for (const char* name : {"d_mixed", "e_moe_routing"}) {
    const auto original = golden(name);
    const std::string release = text(name, "-release"), hf = text(name, "-hf");
    to(ConvertTo::kRelease, original, release);
    const SafetensorsFile renamed(folder_ / release);
    for (const auto& tensor : renamed.names()) {
      EXPECT_EQ(release_name(tensor), tensor);
    }
    to(ConvertTo::kHf, folder_ / release, hf);
    expect_identical_files(folder_ / hf, original);
  }
}

TEST_F(Convert, WeightsOfAReleaseSurviveFloat32AndBaseLayout) {
  // Decoded codes are exact in float32, and these are exact in FP8 with their tiles' scales.
  const auto release = golden("release_tiny");
  to(ConvertTo::kRelease, release, "f32", StoredAs::kFloat32);
  to(ConvertTo::kRelease, release, "base", StoredAs::kBase);
  const SafetensorsFile base(folder_ / "base");
  EXPECT_EQ(release_layout_of(base), ReleaseLayout::kBase);
  const auto config = read_model(folder_ / "base").config;
  EXPECT_EQ(differences_from(release_tensors_of(config, ReleaseLayout::kBase), base),
            std::vector<std::string>{});
  const auto decoded = read_model(folder_ / "f32").weights;
  for (const auto& [name, weight] : read_model(folder_ / "base").weights) {
    const auto values =
        weight.quantized() ? decode({weight.values, weight.scales}) : weight.values.to(at::kFloat);
    const auto& want = decoded.at(name).values;
    EXPECT_TRUE(values.equal(want.to(at::kFloat))) << name;
  }
}

TEST_F(Convert, ReportsTheLargestRoundingErrorOfEachClass) {
  const auto source = golden("release_tiny");
  to(ConvertTo::kRelease, source, "f32", StoredAs::kFloat32);
  // Weights that no code stands for.
  const SafetensorsFile exact(folder_ / "f32");
  fs::create_directory(folder_ / "noisy");
  fs::copy(folder_ / "f32/config.json", folder_ / "noisy");
  std::vector<NamedTensor> noisy;
  double largest = 0;
  for (const auto& name : exact.names()) {
    auto value = exact.tensor(name);
    if (name.ends_with("experts.2.w1.weight")) {
      value = value * 1.1;
      const auto error = (decode(encode_fp4(value)) - value).abs().max().item<double>();
      largest = std::max(largest, error);
    }
    noisy.push_back({name, value});
  }
  write_safetensors(folder_ / "noisy/model.safetensors", noisy);
  const auto report = to(ConvertTo::kRelease, folder_ / "noisy", "fp4", StoredAs::kInstruct);
  bool found = false;
  for (const auto& c : report.classes) {
    found |= c.name == "layers.*.ffn.experts.*.w1.weight";
    if (c.name.ends_with("experts.*.w1.weight") && c.largest_error > 0) {
      EXPECT_EQ(c.to, "FP4");
      EXPECT_LE(c.largest_error, largest);
      EXPECT_GT(c.squared_error, 0);
    } else {
      EXPECT_EQ(c.largest_error, 0) << c.name;
    }
  }
  EXPECT_TRUE(found);
}

TEST_F(Convert, AStoppedConversionGoesOnWhereItWas) {
  const auto source = golden("release_tiny");
  for (const auto format : {ConvertTo::kRelease, ConvertTo::kCheckpoint}) {
    const std::string name = format == ConvertTo::kRelease ? "release" : "checkpoint";
    const auto stored_as = format == ConvertTo::kRelease ? StoredAs::kFloat32 : StoredAs::kDefault;
    to(format, source, name + "-whole", stored_as);
    ConvertOptions stopping{
        .to = format, .stored_as = stored_as, .shard_bytes = 300'000, .progress = {}};
    stopping.progress = [](std::size_t done, std::size_t total) {
      require(done < total / 2, "stopped here");
    };
    const auto partial = folder_ / (name + ".partial");
    expect_mentions(error_of([&] { convert(source, folder_ / name, stopping); }), {"stopped here"});
    EXPECT_FALSE(fs::exists(folder_ / name));
    std::map<std::string, fs::file_time_type> finished;
    for (const auto& entry : fs::directory_iterator(partial)) {
      if (entry.path().extension() == ".safetensors" || entry.path().extension() == ".h5") {
        finished[entry.path().filename().string()] = fs::last_write_time(entry.path());
      }
    }
    ASSERT_GE(finished.size(), 1u);
    const auto report = to(format, source, name, stored_as);
    EXPECT_EQ(report.shards_found, static_cast<int64_t>(finished.size()));
    EXPECT_FALSE(fs::exists(partial));
    for (const auto& [file, time] : finished) {
      EXPECT_EQ(fs::last_write_time(folder_ / name / file), time) << file;
    }
    for (const auto& entry : fs::directory_iterator(folder_ / (name + "-whole"))) {
      EXPECT_EQ(read_file(folder_ / name / entry.path().filename()), read_file(entry.path()))
          << entry.path();
    }
    int64_t tensors = 0;
    for (const auto& c : report.classes) {
      tensors += c.tensors;
    }
    EXPECT_EQ(tensors, 236);
  }
}

TEST_F(Convert, AnotherPlanOrSourceStartsAgain) {
  const auto source = golden("release_tiny");
  ConvertOptions stopping{.stored_as = StoredAs::kFloat32, .shard_bytes = 300'000, .progress = {}};
  stopping.progress = [](std::size_t done, std::size_t total) {
    require(done < total / 2, "stopped here");
  };
  error_of([&] { convert(source, folder_ / "out", stopping); });
  EXPECT_EQ(to(ConvertTo::kRelease, source, "out", StoredAs::kBase).shards_found, 0);
  for (const auto& entry : fs::directory_iterator(folder_ / "out")) {
    EXPECT_NE(entry.path().extension(), ".tmp") << entry.path();
  }
  EXPECT_EQ(release_layout_of(SafetensorsFile(folder_ / "out")), ReleaseLayout::kBase);
}

TEST_F(ConvertedRun, KeepsItsBasesBytesWhereItWasNotTrained) {
  auto model = tiny_model();
  model.hidden_size = model.moe_intermediate_size = 32;
  const auto base = folder_ / "base";
  synthesize_release(base, model, {.expert_layers = {0, 1, 2}, .seed = 5, .progress = {}});
  write_file_atomically(base / "tokenizer.json", "{}");  // not the run's
  write_file_atomically(base / "LICENSE", "as is");
  auto run = config("run");
  run.model = model;
  run.run.init_from = base.string();
  for (const char* frozen : {"*ffn.experts.*", "*shared_experts*"}) {
    run.optimizer.groups.push_back({.match = frozen, .optimizer = OptimizerKind::kNone});
  }
  train(run);

  const auto report = convert(run.run_dir(), folder_ / "tuned", {});
  const SafetensorsFile before(base), after(folder_ / "tuned");
  EXPECT_EQ(differences_from(release_tensors_of(model, ReleaseLayout::kInstruct), after),
            std::vector<std::string>{});
  EXPECT_EQ(read_file(folder_ / "tuned/LICENSE"), "as is");
  EXPECT_EQ(read_file(folder_ / "tuned/tokenizer.json"), byte_tokenizer_json());
  int64_t changed = 0;
  for (const auto& name : before.names()) {
    const bool same = same_bytes(before.tensor(name), after.tensor(name));
    const bool frozen = name.find("experts") != std::string::npos;
    EXPECT_TRUE(same || !frozen) << name;
    changed += !same;
  }
  EXPECT_GT(changed, 10);
  const auto tuned = read_model(folder_ / "tuned").weights,
             trained = read_model(run.run_dir()).weights;
  const auto& codes = tuned.at("layers.1.attn.wq_a.weight");
  const auto& values = trained.at("layers.1.attn.wq_a.weight").values;
  expect_bitwise_equal("wq_a", codes.values, encode_fp8(values, at::kFloat8_e8m0fnu).values);
  EXPECT_TRUE(std::ranges::any_of(report.classes, [](const auto& c) {
    return c.name == "layers.*.attn.wq_a.weight" && c.to == "FP8 E8M0" && c.largest_error > 0;
  }));
}

TEST_F(Convert, SaysWhatCannotBe) {
  const auto release = golden("release_tiny");
  fs::create_directory(folder_ / "there");
  expect_mentions(error_of([&] { to(ConvertTo::kRelease, release, "there"); }),
                  {"there exists", "choose another folder"});
  expect_mentions(error_of([&] { to(ConvertTo::kHf, release, "x", StoredAs::kInstruct); }),
                  {"no place for this release's codes", "--layout bf16"});
  expect_mentions(error_of([&] { to(ConvertTo::kCheckpoint, release, "x", StoredAs::kBfloat16); }),
                  {"leave --layout out"});
  expect_mentions(error_of([&] { to(ConvertTo::kRelease, folder_ / "nothing", "x"); }),
                  {"nothing", "no such folder"});
  fs::create_directory(folder_ / "busy.partial");
  const FolderLock other(folder_ / "busy.partial", "");
  expect_mentions(error_of([&] { to(ConvertTo::kRelease, release, "busy"); }),
                  {"busy.partial", "another process is converting"});
}

}  // namespace
}  // namespace braid
