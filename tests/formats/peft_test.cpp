// LoRA adapters in PEFT's layout, against files and logits that PEFT 0.21.2 made.
#include "checkpoint/peft.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "checkpoint/mtp_adapter.h"
#include "checkpoint/safetensors.h"
#include "core/error.h"
#include "core/file.h"
#include "core/parameter_names.h"
#include "formats/adapters.h"
#include "formats/convert.h"
#include "formats/open_model.h"
#include "formats/synthesize.h"
#include "inference/probe.h"
#include "kernels/codec.h"
#include "tests/formats/quantized_base.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using namespace testing;
using nlohmann::json;

fs::path peft_tiny(const std::string& name) {
  return fs::path(BRAID_TEST_DATA) / "peft_tiny" / name;
}

const SafetensorsFile& expected() {
  static const SafetensorsFile file(peft_tiny("expected.safetensors"));
  return file;
}

at::Tensor logits_with(const fs::path& model, const std::vector<std::string>& adapters) {
  const auto opened =
      open_model(model, at::kFloat, /*trainable=*/false, {.folders = adapters, .any_base = false});
  return probe(*opened.model, expected().tensor("input_ids"), {}, {}).front().value;
}

at::Tensor whole_update(const LowRankUpdate& update) {
  return update_rows(
      update, 0, is_embedding(update.matrix) ? update.a_rI.size(1) : update.b_Or.size(0));
}

std::map<std::string, at::Tensor> whole_updates(const std::vector<LowRankUpdate>& updates) {
  std::map<std::string, at::Tensor> result;
  for (const auto& update : updates) {
    EXPECT_TRUE(result.emplace(update.matrix, whole_update(update)).second) << update.matrix;
  }
  return result;
}

void expect_equal_updates(const std::vector<LowRankUpdate>& got,
                          const std::vector<LowRankUpdate>& want,
                          double relative = 0) {
  const auto a = whole_updates(got), b = whole_updates(want);
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, value] : b) {
    ASSERT_TRUE(a.contains(name)) << name;
    expect_close(name, a.at(name), value, {.relative = relative});
  }
}

/// One of PEFT's adapters, and how many tokens of each sequence its logits are compared for. From
/// the next one on they depend on which of several entries an indexer takes whose scores are all
/// exactly zero (no head likes them): Braid takes the first, torch.topk another one.
struct Vector {
  const char* name;
  int64_t tokens[2];
};
constexpr Vector kVectors[] = {{"adapter_attn", {40, 40}},
                               {"adapter_experts", {36, 21}},
                               {"adapter_mixed", {34, 22}},
                               {"adapter_dora", {40, 40}}};

void expect_pefts_logits(const Vector& vector,
                         const at::Tensor& got,
                         const std::string& expected_name) {
  const auto want = expected().tensor(expected_name);
  ASSERT_EQ(got.sizes(), want.sizes());
  const double largest = want.abs().max().item<double>();
  for (int64_t sequence = 0; sequence < 2; ++sequence) {
    const auto first = [&](const at::Tensor& logits) {
      return logits.select(0, sequence).narrow(0, 0, vector.tokens[sequence]);
    };
    expect_close(text(expected_name, " of sequence ", sequence),
                 first(got),
                 first(want),
                 {.absolute = 1e-5 * largest});
  }
}

class Peft : public CorpusTest {
 protected:
  /// A copy of one of the adapters that a test may change.
  fs::path copy_of(const std::string& adapter) {
    const auto folder = folder_ / "adapter";
    fs::remove_all(folder);
    fs::copy(peft_tiny(adapter), folder);
    return folder;
  }

  static void change_config(const fs::path& folder, const std::string& key, const json& value) {
    auto config = json::parse(read_file(folder / kPeftConfig));
    config[key] = value;
    write_file_atomically(folder / kPeftConfig, config.dump());
  }

  ConvertReport merge(const fs::path& base,
                      const std::vector<std::string>& adapters,
                      const std::string& target,
                      StoredAs layout = StoredAs::kDefault,
                      ConvertTo to = ConvertTo::kRelease,
                      bool any_base = false) {
    return convert(base,
                   folder_ / target,
                   {.to = to,
                    .stored_as = layout,
                    .progress = {},
                    .merged = AdapterFolders{.folders = adapters, .any_base = any_base}});
  }
};

TEST_F(Peft, AModelWithAnAdapterHasPeftsLogits) {
  for (const auto& vector : kVectors) {
    expect_pefts_logits(
        vector, logits_with(peft_tiny(""), {peft_tiny(vector.name)}), text("logits_", vector.name));
  }
}

TEST_F(Peft, AMergedModelHasPeftsLogits) {
  for (const auto& vector : kVectors) {
    for (const auto to : {ConvertTo::kRelease, ConvertTo::kHf}) {
      const auto target = text(vector.name, static_cast<int>(to));
      const auto report =
          merge(peft_tiny(""), {peft_tiny(vector.name)}, target, StoredAs::kSame, to);
      expect_pefts_logits(
          vector, logits_with(folder_ / target, {}), text("logits_merged_", vector.name));
      EXPECT_TRUE(report.warnings.empty());
    }
  }
}

// Row e r + k of A is of expert e, column k E + e of B.
TEST_F(Peft, EveryExpertsUpdateFollowsTheRule) {
  struct Case {
    const char* adapter;
    int64_t rank;
    double scale;
  };
  for (const auto& one :
       {Case{"adapter_experts", 2, 2.0}, Case{"adapter_mixed", 3, 6 / std::sqrt(3.0)}}) {
    const auto r = one.rank;
    const auto scale = one.scale;
    const std::string adapter = one.adapter;
    const SafetensorsFile file(peft_tiny(adapter) / kPeftWeights);
    const auto got = whole_updates(read_peft(peft_tiny(adapter)).updates);
    constexpr int64_t kLayers = 4, kExperts = 4, kWidth = 24;
    for (int64_t layer = 0; layer < kLayers; ++layer) {
      for (int64_t e = 0; e < kExperts; ++e) {
        const auto delta = [&](const char* wrapper) {
          const auto key = text("base_model.model.model.layers.", layer, ".mlp.experts", wrapper);
          const auto a = file.tensor(key + ".lora_A.weight").to(at::kDouble),
                     b = file.tensor(key + ".lora_B.weight").to(at::kDouble);
          auto sum = at::zeros({b.size(0), a.size(1)}, at::kDouble);
          for (int64_t k = 0; k < r; ++k) {
            sum += scale * at::outer(b.select(1, k * kExperts + e), a.select(0, e * r + k));
          }
          return sum;
        };
        const auto name = [&](const char* w) {
          return text("layers.", layer, ".ffn.experts.", e, ".", w, ".weight");
        };
        const auto gate_up = delta(".base_layer");
        const Tolerance rounding{.relative = 1e-6};
        expect_close(
            name("w1"), got.at(name("w1")).to(at::kDouble), gate_up.narrow(0, 0, kWidth), rounding);
        expect_close(name("w3"),
                     got.at(name("w3")).to(at::kDouble),
                     gate_up.narrow(0, kWidth, kWidth),
                     rounding);
        expect_close(name("w2"), got.at(name("w2")).to(at::kDouble), delta(""), rounding);
      }
    }
  }
}

TEST_F(Peft, WritesTheFilesThatPeftWrites) {
  for (const auto& vector : kVectors) {
    const std::string adapter = vector.name;
    const auto folder = folder_ / adapter;
    fs::create_directory(folder);
    const auto read = read_peft(peft_tiny(adapter));
    write_peft(folder, read);
    const SafetensorsFile got(folder / kPeftWeights), want(peft_tiny(adapter) / kPeftWeights);
    EXPECT_EQ(got.names().size(), want.names().size());
    for (const auto& name : want.names()) {
      ASSERT_TRUE(got.contains(name)) << adapter << ": " << name;
      expect_bitwise_equal(name, got.tensor(name), want.tensor(name));
    }
    const auto again = read_peft(folder);
    EXPECT_EQ(again.rslora, read.rslora);
    expect_equal_updates(again.updates, read.updates);
    for (std::size_t i = 0; i < again.updates.size(); ++i) {
      EXPECT_EQ(again.updates[i].alpha, read.updates[i].alpha);
    }
    EXPECT_EQ(again.is_dora(), adapter == "adapter_dora");
  }
}

TEST_F(Peft, OneTargetedStackTakesTheKeysWithoutPrefix) {
  auto adapter = read_peft(peft_tiny("adapter_experts"));
  for (const bool down : {false, true}) {
    auto kept = adapter;
    std::erase_if(kept.updates, [down](const LowRankUpdate& update) {
      return update.matrix.ends_with(".w2.weight") != down;
    });
    const auto folder = folder_ / (down ? "down" : "gate_up");
    fs::create_directory(folder);
    write_peft(folder, kept);
    EXPECT_TRUE(SafetensorsFile(folder / kPeftWeights)
                    .contains("base_model.model.model.layers.0.mlp.experts.lora_A.weight"));
    expect_equal_updates(read_peft(folder).updates, kept.updates);
  }
}

// Rank r each in the file, 2 r in the configuration, as PEFT needs it.
TEST_F(Peft, AdaptersOfSingleExpertsAreReadAndStackedExactly) {
  const auto folder = folder_ / "single";
  fs::create_directory(folder);
  std::vector<NamedTensor> tensors;
  const auto of_model = read_peft(peft_tiny("adapter_experts"));
  std::vector<LowRankUpdate> want;
  for (auto update : of_model.updates) {
    if (update.matrix.ends_with(".w3.weight")) {
      update.a_rI = update.a_rI.flip(0) * 0.5;  // another than that of w1
    }
    const auto leaf = update.matrix.substr(update.matrix.find("experts."));
    const auto path = text("base_model.model.model.",
                           update.matrix.substr(0, update.matrix.find(".ffn.")),
                           ".mlp.",
                           leaf.substr(0, leaf.size() - 7));
    tensors.push_back({path + ".lora_A.weight", update.a_rI});
    tensors.push_back({path + ".lora_B.weight", update.b_Or});
    want.push_back(update);
  }
  write_safetensors(folder / kPeftWeights, tensors);
  fs::copy(peft_tiny("adapter_experts") / kPeftConfig, folder / kPeftConfig);
  expect_equal_updates(read_peft(folder).updates, want);  // plain r and alpha
  change_config(folder, "rank_pattern", {{"mlp.experts.gate_up_proj", 4}});
  change_config(folder, "alpha_pattern", {{"mlp.experts.gate_up_proj", 8}});
  auto read = read_peft(folder);
  expect_equal_updates(read.updates, want);
  read.updates = with_shared_inputs(read.updates, read.rslora);
  expect_equal_updates(read.updates, want, 1e-6);
  fs::create_directory(folder_ / "stacked");
  write_peft(folder_ / "stacked", read);
  EXPECT_EQ(SafetensorsFile(folder_ / "stacked" / kPeftWeights)
                .shape("base_model.model.model.layers.0.mlp.experts.base_layer.lora_A.weight"),
            (std::vector<int64_t>{16, 48}));
  expect_equal_updates(read_peft(folder_ / "stacked").updates, want, 1e-6);
  expect_close("logits",
               logits_with(peft_tiny(""), {folder}),
               logits_with(peft_tiny(""), {folder_ / "stacked"}),
               {.absolute = 1e-6});
}

TEST_F(Peft, SeveralAdaptersAddUp) {
  const std::vector<std::string> all = {
      peft_tiny("adapter_attn"), peft_tiny("adapter_experts"), peft_tiny("adapter_mixed")};
  merge(peft_tiny(""), all, "merged", StoredAs::kFloat32);
  expect_close("logits",
               logits_with(peft_tiny(""), all),
               logits_with(folder_ / "merged", {}),
               {.relative = 1e-5});
}

TEST_F(Peft, EmbeddingsAddTheTransposeAndCopiesOfTheBaseMustBeTheBases) {
  const auto folder = copy_of("adapter_attn");
  const auto write = [&](const at::Tensor& copy) {
    const auto options = at::kFloat;
    write_safetensors(folder / kPeftWeights,
                      {{"base_model.model.model.embed_tokens.lora_embedding_A",
                        at::linspace(-1, 1, 4 * 256, options).view({4, 256})},
                       {"base_model.model.model.embed_tokens.lora_embedding_B",
                        at::linspace(-0.5, 0.5, 48 * 4, options).view({48, 4})},
                       {"base_model.model.model.embed_tokens.base_layer.weight", copy}});
  };
  const auto embedding = SafetensorsFile(peft_tiny("")).tensor("model.embed_tokens.weight");
  write(embedding);
  merge(peft_tiny(""), {folder}, "merged", StoredAs::kFloat32);
  const SafetensorsFile file(folder / kPeftWeights);
  const auto update = at::mm(file.tensor("base_model.model.model.embed_tokens.lora_embedding_B"),
                             file.tensor("base_model.model.model.embed_tokens.lora_embedding_A"));
  expect_close("embed.weight",
               SafetensorsFile(folder_ / "merged").tensor("embed.weight"),
               embedding + 2 * update.t(),
               {.absolute = 1e-6});
  expect_close("logits",
               logits_with(peft_tiny(""), {folder}),
               logits_with(folder_ / "merged", {}),
               {.absolute = 1e-5});
  write(embedding + 1);
  expect_mentions(error_of([&] { logits_with(peft_tiny(""), {folder}); }),
                  {"embed.weight whole, with other values", "merge_and_unload"});
}

TEST_F(Peft, RefusesByNameWhatItWouldComputeOtherwise) {
  struct Case {
    const char* key;
    json value;
    const char* message;
  };
  const std::vector<Case> cases = {
      {"peft_type", "LOHA", "peft_type is \"LOHA\""},
      {"use_dora", "yes", "use_dora is neither true nor false"},
      {"use_dora", true, "has no lora_magnitude_vector"},
      {"bias", "all", "bias is \"all\""},
      {"lora_bias", true, "lora_bias is true"},
      {"fan_in_fan_out", true, "fan_in_fan_out is true"},
      {"modules_to_save", {"lm_head"}, "modules_to_save is [\"lm_head\"]"},
      {"trainable_token_indices", {1, 2}, "trainable_token_indices is [1,2]"},
      {"init_lora_weights", "pissa_niter_4", "init_lora_weights is \"pissa_niter_4\""},
      {"r", 0, "r is 0; expected a whole number from 1 to 1048576"},
      {"r", "four", "r is \"four\""},
      {"lora_alpha", nullptr, "lora_alpha is no number above 0"},
      {"use_rslora", "yes", "use_rslora is neither true nor false"},
      {"rank_pattern", {{"(", 3}}, "'(' is no regular expression"},
      {"rank_pattern", {{"q_a_proj", 0}}, "rank_pattern.q_a_proj is no number above 0"},
      {"rank_pattern", {{"q_a_proj", 0.5}}, "rank_pattern.q_a_proj is 0.5; expected a whole"},
      {"rank_pattern", {{"q_a_proj", 3}}, "says rank 3 (r, rank_pattern) of"},
      {"r", 5, "do the two files belong together?"},
  };
  for (const auto& [key, value, message] : cases) {
    const auto folder = copy_of("adapter_attn");
    change_config(folder, key, value);
    expect_mentions(error_of([&] { read_peft(folder); }), {kPeftConfig, message});
  }
  const auto stack = copy_of("adapter_experts");
  change_config(stack, "target_parameters", {"mlp.experts.down_proj"});
  expect_mentions(error_of([&] { read_peft(stack); }),
                  {"'model.layers.0.mlp.experts", "name one of", "they say which stack is meant"});
  change_config(stack, "target_parameters", nullptr);
  expect_mentions(error_of([&] { read_peft(stack); }), {"name none of"});
  const auto plain = copy_of("adapter_attn");
  change_config(plain, "some_new_key", 3);
  EXPECT_TRUE(read_peft(plain).notes.front().ends_with("passes over: some_new_key"));
}

TEST_F(Peft, RefusesTensorsWithoutAPlace) {
  const auto folder = copy_of("adapter_attn");
  const std::string layer = "base_model.model.model.layers.0.";
  const auto a = at::ones({4, 48}), b = at::ones({24, 4});
  const auto with = [&](const std::vector<NamedTensor>& tensors) {
    write_safetensors(folder / kPeftWeights, tensors);
    return error_of([&] { read_peft(folder); });
  };
  const auto q = layer + "self_attn.q_a_proj";
  expect_mentions(with({{q + ".lora_A.weight", a}}), {"has lora_A but no lora_B", "complete"});
  expect_mentions(with({{q + ".lora_A.default.weight", a}}), {"without the adapter's name"});
  expect_mentions(with({{q + ".lora_magnitude_vector", a}}), {"DoRA", "use_dora: true"});
  expect_mentions(with({{q + ".lora_magnitude_vector.weight", a}}), {"PEFT's saved layout"});
  expect_mentions(with({{q + ".weight", a}}), {"whole weight beside the adapters"});
  expect_mentions(with({{layer + "self_attn.z_proj.lora_A.weight", a},
                        {layer + "self_attn.z_proj.lora_B.weight", b}}),
                  {"z_proj' is no matrix of a DeepSeek-V4 model"});
  expect_mentions(with({{q + ".lora_A.weight", a}, {q + ".lora_B.weight", at::ones({24, 3})}}),
                  {"lora_A [4, 48] and lora_B [24, 3]"});
  expect_mentions(with({{q + ".lora_A.weight", a * std::nan("")}, {q + ".lora_B.weight", b}}),
                  {"not finite"});
  expect_mentions(with({}), {"holds no adapters"});
  fs::remove(folder / kPeftWeights);
  write_file_atomically(folder / "adapter_model.bin", "x");
  expect_mentions(error_of([&] { read_peft(folder); }), {"is a pickle"});
  // of another model
  write_safetensors(folder / kPeftWeights,
                    {{q + ".lora_A.weight", at::ones({4, 47})}, {q + ".lora_B.weight", b}});
  expect_mentions(error_of([&] { logits_with(peft_tiny(""), {folder}); }),
                  {"for a matrix [24, 47]", "is [24, 48]", "of another model?"});
}

// PEFT has it for modules; Braid computes it for linear layers, whose products are scaled row by
// row.
TEST_F(Peft, DoraOfWhatHasNoneIsRefused) {
  const auto experts = copy_of("adapter_experts");
  change_config(experts, "use_dora", true);
  expect_mentions(error_of([&] { read_peft(experts); }), {"has no lora_magnitude_vector"});
  const auto with =
      [&](const std::string& path, const char* a_name, const char* b_name, const json& parameters) {
        const auto folder = copy_of("adapter_dora");
        change_config(folder, "rank_pattern", json::object());
        change_config(folder, "target_parameters", parameters);
        const auto module = "base_model.model." + path;
        write_safetensors(folder / kPeftWeights,
                          {{module + a_name, at::ones({3, 48})},
                           {module + b_name, at::ones({4, 3})},
                           {module + ".lora_magnitude_vector", at::ones({4})}});
        return error_of([&] { read_peft(folder); });
      };
  constexpr const char *kA = ".lora_A.weight", *kB = ".lora_B.weight";
  expect_mentions(with("model.layers.1.mlp.gate", kA, kB, {"mlp.gate.weight"}),
                  {"mlp.gate' is a parameter", "PEFT defines no DoRA"});
  expect_mentions(with("model.layers.1.mlp.experts", kA, kB, {"mlp.experts.down_proj"}),
                  {"mlp.experts' is a parameter", "PEFT defines no DoRA"});
  expect_mentions(with("lm_head", kA, kB, nullptr), {"head.weight", "linear layers alone"});
  expect_mentions(with("model.embed_tokens", ".lora_embedding_A", ".lora_embedding_B", nullptr),
                  {"embed.weight", "linear layers alone"});
  const auto folder = copy_of("adapter_dora");
  std::vector<NamedTensor> tensors;
  for (const auto& [name, value] :
       SafetensorsFile(peft_tiny("adapter_dora") / kPeftWeights).views()) {
    const bool is_one = name.ends_with("layers.0.self_attn.q_a_proj.lora_magnitude_vector");
    tensors.push_back({name, is_one ? value.narrow(0, 0, 5) : value});
  }
  write_safetensors(folder / kPeftWeights, tensors);
  expect_mentions(error_of([&] { read_peft(folder); }), {"has lora_magnitude_vector [5]"});
}

TEST_F(Peft, DoraIsAloneBecauseLengthsAreNoSum) {
  const std::vector<std::string> two = {peft_tiny("adapter_dora"), peft_tiny("adapter_attn")};
  expect_mentions(error_of([&] { logits_with(peft_tiny(""), two); }), {"DoRA's", "no sum"});
  expect_mentions(error_of([&] { merge(peft_tiny(""), two, "merged"); }), {"DoRA's", "no sum"});
  merge(peft_tiny(""), {two[0]}, "first", StoredAs::kFloat32);
  EXPECT_NO_THROW(merge(folder_ / "first", {two[1]}, "both", StoredAs::kFloat32));
}

/// Adapters of a run on a base of the release's layout.
class PeftOfRun : public QuantizedBase {
 protected:
  PeftOfRun() : run_(run_on_base("tuned")) {
    run_.train.parameters.kind = TrainedParameters::Kind::kLora;
    run_.adapter.rank = 4;
    run_.adapter.alpha = 8;
    run_.adapter.targets.items = {"all"};
    run_.adapter.rank_pattern = {{"*.ffn.experts.*", 2}};
    run_.optimizer.learning_rate = 0.01;
    run_.train.max_steps = 2;
  }

  static at::Tensor logits(const fs::path& model, const AdapterFolders& adapters = {}) {
    return probe(*open_model(model, at::kFloat, false, adapters).model,
                 at::arange(20).view({1, 20}),
                 {},
                 {})
        .front()
        .value;
  }

  RunConfig run_;
};

TEST_F(PeftOfRun, DoraLeavesIsMergedAndTrainsFurther) {
  run_.adapter.targets.items = {
      "attention", "layers.*.ffn.shared_experts.*", "mtp.*.attn.wq_a.weight"};
  run_.adapter.rank_pattern.clear();
  run_.adapter.dora = true;
  train(run_);
  const auto adapter = folder_ / "adapter";
  const auto written = write_adapter(run_.run_dir(), adapter);
  EXPECT_EQ(written.of_mtp, 1);
  const auto read = read_peft(adapter);
  EXPECT_TRUE(std::ranges::all_of(read.updates,
                                  [](const auto& update) { return update.magnitude_O.defined(); }));
  expect_bitwise_equal("logits", logits(base_, {{adapter}}), logits(run_.run_dir()));

  convert(base_,
          folder_ / "merged",
          {.stored_as = StoredAs::kFloat32, .progress = {}, .merged = AdapterFolders{{adapter}}});
  const auto wide = Tolerance{.absolute = 1e-4, .relative = 1e-5};
  expect_close("logits", logits(folder_ / "merged"), logits(run_.run_dir()), wide);
  const auto values = [](const StoredModel& model, const std::string& name) {
    const auto& weight = model.weights.at(name);
    return weight.quantized() ? decode({weight.values, weight.scales}, at::kFloat)
                              : weight.values.to(at::kFloat);
  };
  const auto before = read_model(base_), after = read_model(folder_ / "merged");
  for (const auto& update : read.updates) {  // the formula of the paper
    const auto sum = values(before, update.matrix) + whole_update(update);
    const auto want = update.magnitude_O.unsqueeze(1) * sum / sum.norm(2, {1}, true);
    expect_close(update.matrix, values(after, update.matrix), want, {.relative = 1e-5});
  }

  auto further = run_;
  further.run.name = "further";
  further.adapter.init_from = adapter.string();
  train(further, 0);
  expect_bitwise_equal("logits", logits(further.run_dir()), logits(run_.run_dir()));
  further.run.name = "plain";
  further.adapter.dora = false;
  expect_mentions(error_of([&] { train(further); }), {"adapter.dora: is false", "set it to true"});
}

TEST_F(PeftOfRun, DoraOfARouterHasNoPlaceInPeftsLayout) {
  run_.adapter.targets.items = {"attention", "layers.*.ffn.gate.weight"};
  run_.adapter.rank_pattern.clear();
  run_.adapter.dora = true;
  train(run_);
  expect_mentions(error_of([&] { write_adapter(run_.run_dir(), folder_ / "adapter"); }),
                  {"ffn.gate.weight", "is a parameter to PEFT", "braid merge"});
  EXPECT_FALSE(fs::exists(folder_ / "adapter"));
  EXPECT_NO_THROW(
      convert(run_.run_dir(), folder_ / "merged", {.progress = {}, .merged = AdapterFolders{}}));
}

// One folder holds all that was trained: what Hugging Face lacks lies beside PEFT's files.
TEST_F(PeftOfRun, AdaptersOfTheMtpBlockComeAlong) {
  run_.adapter.alpha_pattern = {{"mtp.*.attn.wkv.weight", 3}};
  run_.loss.mtp_weight = 0.3;
  train(run_);
  const auto adapter = folder_ / "adapter";
  const auto written = write_adapter(run_.run_dir(), adapter);
  EXPECT_GT(written.of_mtp, 10);
  const SafetensorsFile of_peft(adapter / kPeftWeights);
  for (const auto& name : of_peft.names()) {
    EXPECT_EQ(name.find("mtp"), std::string::npos) << name;
  }
  const auto own = read_adapter(run_.run_dir()), read = read_adapter(adapter);
  expect_equal_updates(read.updates, own.updates);
  std::map<std::string, double> alphas;
  for (const auto& update : read.updates) {
    alphas[update.matrix] = update.alpha;
  }
  EXPECT_EQ(alphas.at("mtp.0.attn.wkv.weight"), 3);
  EXPECT_EQ(alphas.at("mtp.0.attn.wq_a.weight"), 8);

  // Trained further, and to another folder: nothing is lost.
  auto further = run_;
  further.run.name = "further";
  further.adapter.init_from = adapter.string();
  train(further, 0);
  expect_equal_updates(read_adapter(further.run_dir()).updates, own.updates);
  write_adapter(adapter, folder_ / "again");
  EXPECT_TRUE(read_file(folder_ / "again" / kMtpAdapter) == read_file(adapter / kMtpAdapter));

  // The merged model's MTP block is that of base and adapter.
  convert(base_,
          folder_ / "merged",
          {.stored_as = StoredAs::kFloat32, .progress = {}, .merged = AdapterFolders{{adapter}}});
  const auto name = std::string("mtp.0.attn.wq_b.weight");
  const auto merged = read_model(folder_ / "merged").weights.at(name).values;
  const auto base = read_model(base_).weights.at(name);
  const auto change = merged - decode({base.values, base.scales}, at::kFloat);
  EXPECT_GT(change.abs().max().item<float>(), 0);
  expect_close(name, change, whole_updates(own.updates).at(name), {.absolute = 1e-6});

  // A model without the block takes the others.
  auto without = run_.model;
  without.num_nextn_predict_layers = 0;
  auto stored = read_model(base_);
  configure(stored, without, {});
  add_adapters(stored, {.folders = {adapter}, .any_base = false});
  EXPECT_FALSE(stored.weights.contains("mtp.0.attn.wq_a.lora_A.weight"));
  EXPECT_TRUE(stored.weights.contains("layers.0.attn.wq_a.lora_A.weight"));
  ASSERT_FALSE(stored.notes.empty());
  expect_mentions(stored.notes.back(), {"of the MTP block are left out"});
}

TEST_F(PeftOfRun, AFileOfTheMtpBlockThatDoesNotFitIsAnErrorOrANote) {
  train(run_);
  const auto adapter = folder_ / "adapter";
  write_adapter(run_.run_dir(), adapter);
  const SafetensorsFile peft(adapter / kPeftWeights), mtp(adapter / kMtpAdapter);
  const auto tensors = mtp.views();
  const auto metadata = mtp.metadata();
  const auto with = [&](const std::vector<NamedTensor>& changed,
                        const std::map<std::string, std::string>& said) {
    write_safetensors(adapter / kMtpAdapter, changed, said);
    return error_of([&] { read_peft(adapter); });
  };
  auto more = tensors;
  more.push_back({"mtp.0.attn.wq_c.lora_A.weight", at::ones({2, 2})});
  expect_mentions(with(more, metadata), {kMtpAdapter, "wq_c", "no matrix of the MTP block"});
  auto fewer = tensors;
  std::erase_if(fewer, [](const auto& one) { return one.name == "mtp.0.attn.wkv.lora_B.weight"; });
  expect_mentions(with(fewer, metadata), {"has no mtp.0.attn.wkv.lora_B.weight", "complete"});
  auto said = metadata;
  said["braid.alpha.mtp.0.attn.wkv.weight"] = "8x";
  expect_mentions(with(tensors, said), {"'8x'", "a number above 0"});
  said = metadata;
  said["braid.alpha.layers.0.attn.wkv.weight"] = "8";
  expect_mentions(with(tensors, said), {"layers.0.attn.wkv.weight", "no matrix of the MTP block"});
  fs::remove(adapter / kMtpAdapter);
  expect_mentions(error_of([&] { read_peft(adapter); }), {kMtpAdapter, "copy it, too"});

  // PEFT saves a folder again without what it does not know.
  write_safetensors(adapter / kMtpAdapter, tensors, metadata);
  auto kept = peft.metadata();
  kept.erase("braid.mtp_adapter");
  write_safetensors(adapter / kPeftWeights, peft.views(), kept);
  const auto read = read_peft(adapter);
  ASSERT_EQ(read.notes.size(), 1u);
  expect_mentions(read.notes.front(), {kMtpAdapter, "is passed over"});
}

TEST_F(PeftOfRun, TrainsTheAdaptersOfAFolderFurther) {
  run_.adapter.targets.items = {"attention", "experts"};
  train(run_);
  write_adapter(run_.run_dir(), folder_ / "adapter");
  auto further = run_;
  further.run.name = "further";
  further.adapter.init_from = (folder_ / "adapter").string();
  const auto trained = train(further, 0);
  expect_mentions(trained.output, {"starting from the adapters of", "adapter"});
  expect_bitwise_equal("logits", logits(further.run_dir()), logits(run_.run_dir()));
  further.adapter.init_from = (folder_ / "gone later").string();  // read at step 0 only
  train(further);
  EXPECT_FALSE(logits(further.run_dir()).equal(logits(run_.run_dir())));

  const auto refused = [&](const auto& change) {
    auto other = run_;
    other.run.name = "refused";
    other.adapter.init_from = (folder_ / "adapter").string();
    change(other.adapter);
    return error_of([&] { train(other); });
  };
  expect_mentions(refused([](LoraConfig& lora) { lora.rank = 8; }),
                  {"adapter.rank: is 8 for", "but 4 in adapter.init_from"});
  expect_mentions(
      refused([](LoraConfig& lora) { lora.rslora = true; }),
      {"adapter.alpha: is 8 for", "makes its scale 5.65685", "but 4 in adapter.init_from"});
  expect_mentions(refused([](LoraConfig& lora) { lora.targets.items = {"experts"}; }),
                  {"adapter.targets: names no layers.0.attn.wkv.weight"});
  expect_mentions(refused([](LoraConfig& lora) {
                    lora.targets.items.emplace_back("layers.0.ffn.gate.weight");
                  }),
                  {"adapter.targets: names layers.0.ffn.gate.weight", "has no adapter"});
}

TEST_F(PeftOfRun, AdaptersLeaveAndAreMergedAndTheBaseIsChecked) {
  train(run_);
  const auto adapter = folder_ / "adapter";
  const auto written = write_adapter(run_.run_dir(), adapter);
  EXPECT_GT(written.of_mtp, 0);
  EXPECT_FALSE(fs::exists(adapter / ".braid"));
  expect_bitwise_equal("logits", logits(base_, {{adapter}}), logits(run_.run_dir()));
  expect_mentions(error_of([&] { write_adapter(run_.run_dir(), adapter); }), {"adapter"});
  expect_mentions(error_of([&] { write_adapter(base_, folder_ / "none"); }),
                  {"has no LoRA adapters"});

  const auto merged = [&](const fs::path& base, const AdapterFolders& adapters, StoredAs layout) {
    fs::remove_all(folder_ / "merged");
    return convert(
        base, folder_ / "merged", {.stored_as = layout, .progress = {}, .merged = adapters});
  };
  merged(base_, {{adapter}}, StoredAs::kFloat32);
  expect_close("logits",
               logits(folder_ / "merged"),
               logits(run_.run_dir()),
               {.absolute = 1e-4, .relative = 1e-5});
  merged(run_.run_dir(), {}, StoredAs::kFloat32);  // with its own
  expect_close("logits",
               logits(folder_ / "merged"),
               logits(run_.run_dir()),
               {.absolute = 1e-4, .relative = 1e-5});

  // In the base's own formats: what the report says is what the files hold.
  const auto report = merged(base_, {{adapter}}, StoredAs::kSame);
  const auto before = read_model(base_).weights, after = read_model(folder_ / "merged").weights;
  std::map<std::string, double> products, squares;
  for (const auto& update : read_peft(adapter).updates) {
    const auto values = [](const Weight& weight) {
      return weight.quantized() ? decode({weight.values, weight.scales}, at::kDouble)
                                : weight.values.to(at::kDouble);
    };
    const auto delta = whole_update(update).to(at::kDouble);
    const auto change = values(after.at(update.matrix)) - values(before.at(update.matrix));
    const auto* row = kind_of(update.matrix);
    const auto* block = row->place == ParameterPlace::kTop ? ""
                        : is_mtp(update.matrix)            ? "mtp.*."
                                                           : "layers.*.";
    const auto kind = text(block, row->name);
    products[kind] += (change * delta).sum().item<double>();
    squares[kind] += delta.square().sum().item<double>();
  }
  int64_t updated = 0;
  for (const auto& entry : report.classes) {
    if (entry.updated > 0 && entry.update_squares > 0) {  // an indexer's has not moved
      ++updated;
      ASSERT_TRUE(squares.contains(entry.name)) << entry.name;
      const double square = squares.at(entry.name);
      EXPECT_NEAR(entry.update_squares, square, 1e-5 * square) << entry.name;
      EXPECT_NEAR(entry.survived(), products.at(entry.name) / square, 1e-4) << entry.name;
    }
  }
  EXPECT_GT(updated, 8);
  auto config = json::parse(read_file(adapter / kPeftConfig));
  config["lora_alpha"] = 0.002;  // steps of FP4 are larger than that
  write_file_atomically(adapter / kPeftConfig, config.dump());
  const auto warnings = merged(base_, {{adapter}}, StoredAs::kSame).warnings;
  ASSERT_FALSE(warnings.empty());
  expect_mentions(warnings.back(), {"rounding to F", " % of the update of ", "--layout bf16"});

  const auto other = folder_ / "other";
  synthesize_release(other,
                     run_.model,
                     {.layout = ReleaseLayout::kInstruct,
                      .expert_layers = {0},
                      .seed = 6,
                      .shard_bytes = 100'000,
                      .progress = {}});
  expect_mentions(error_of([&] { merged(other, {{adapter}}, StoredAs::kSame); }),
                  {"was trained on another base than", "other", "--any-base"});
  expect_mentions(error_of([&] { logits(other, {{adapter}}); }), {"another base"});
  EXPECT_NO_THROW(merged(other, {{adapter}, true}, StoredAs::kSame));
  expect_mentions(error_of([&] { merged(base_, {}, StoredAs::kSame); }), {"has no adapters"});
}

}  // namespace
}  // namespace braid
