// Training adapters on a frozen base: what moves, what is saved, and what a configuration means.
#include <algorithm>
#include <filesystem>
#include <set>

#include <ATen/ATen.h>

#include "checkpoint/store.h"
#include "core/error.h"
#include "core/parameter_names.h"
#include "formats/base_sizes.h"
#include "formats/convert.h"
#include "formats/inspect.h"
#include "formats/open_model.h"
#include "inference/probe.h"
#include "plan/plan.h"
#include "run/memory.h"
#include "tests/formats/quantized_base.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using namespace testing;

class LoraRun : public QuantizedBase {
 protected:
  static std::map<std::string, at::Tensor> tensors_of(const RunConfig& run) {
    std::map<std::string, at::Tensor> tensors;
    for (const auto& [name, value] : load_checkpoint(newest_checkpoint(run)).tensors) {
      tensors.emplace(name, value);
    }
    return tensors;
  }

  static at::Tensor logits(const fs::path& path) {
    const auto ids = at::arange(20).view({1, 20});
    return probe(*open_model(path, at::kFloat).model, ids, {}, {}).front().value;
  }
};

const std::vector<std::string> kAll = {"all"}, kUsual = {"attention", "experts"};

TEST_F(LoraRun, MovesAndSavesAdaptersAlone) {
  const auto run = adapters_on_base("run", kUsual);
  const auto before = fingerprint_of(base_);
  const auto trained = train(run);
  EXPECT_EQ(trained.end, TrainingEnd::kFinished);
  expect_mentions(trained.output,
                  {"layers.*.attn.wq_a.weight         attention     4      8         3         480",
                   "layers.*.ffn.experts.*.w3.weight  experts       4      8        12        1536",
                   "frozen weights stay in " + base_.string()});
  std::set<std::string> adapters;
  for (const auto& [name, value] : tensors_of(run)) {
    const auto own = name.substr(name.find('/') + 1);
    if (name.starts_with("model/")) {
      EXPECT_TRUE(is_adapter(own)) << name;
      adapters.insert(own);
      EXPECT_GT(value.abs().max().item<float>(), 0) << name;
    } else if (name.starts_with("optimizer/")) {
      EXPECT_TRUE(is_adapter(own.substr(0, own.rfind('/')))) << name;
    } else {
      EXPECT_TRUE(name.starts_with("monitors/")) << name;
    }
  }
  // Four matrices of each layer; of each expert an A of two, two B of it, and A and B of the third.
  EXPECT_EQ(adapters.size(), 3u * (4 * 2 + 4 * 5));
  EXPECT_EQ(fingerprint_of(base_), before);
  EXPECT_FALSE(logits(run.run_dir()).equal(logits(base_))) << "training changed nothing";
  for (const auto& verdict : inspect(run.run_dir(), /*verify=*/true).verdicts) {
    EXPECT_EQ(verdict.problem, "") << verdict.file;
  }
}

// Gradients and optimizer state are those of the adapters; codes of experts stay in their files.
TEST_F(LoraRun, TakesTheMemoryThatThePlanSays) {
  const auto run = adapters_on_base("run", kUsual);
  const auto output = train(run, 1).output;
  const auto plan = plan_training(run, 1, bytes_of_codes(base_));
  const auto opened = open_model(run.run_dir(), at::kFloat);
  const auto& parameters = opened.model->parameters();
  double held = 0;
  for (const auto& [name, value] : parameters.tensors()) {
    held += static_cast<double>(value.nbytes());
  }
  for (const auto& parameter : parameters.all()) {
    for (const auto& weight : parameter.quantized) {
      held += weight.mapped() ? 0 : static_cast<double>(weight.nbytes());
    }
  }
  EXPECT_EQ(plan.memory.weights_bytes, held);
  EXPECT_EQ(plan.memory.base_weights_bytes, 0);
  expect_mentions(
      output,
      {"weights " + bytes_text(static_cast<int64_t>(held)),
       "optimizer state " + bytes_text(static_cast<int64_t>(plan.memory.optimizer_bytes)),
       "gradients " + bytes_text(static_cast<int64_t>(plan.memory.gradients_bytes))});
  EXPECT_TRUE(bytes_of_codes(folder_ / "nowhere").empty());
}

TEST_F(LoraRun, EveryAdapterLearnsInARunWithEveryLoss) {
  auto run = adapters_on_base("run", kAll);
  run.loss.indexer_mode = IndexerMode::kSparse;
  run.loss.balance_weight = 0.1;
  run.train.recompute_sublayers = 2;
  run.train.dtype = ComputeType::kBfloat16;
  const auto trained = train(run);
  EXPECT_EQ(trained.output.find("note: no loss"), std::string::npos) << trained.output;
  const auto tensors = tensors_of(run);
  for (const auto& [name, value] : tensors) {
    if (name.ends_with(".lora_B.weight") && name.starts_with("model/")) {
      // An expert of a stack may get no token in so few steps.
      EXPECT_TRUE(is_expert(name.substr(6)) || value.abs().max().item<float>() > 0) << name;
    }
  }
  EXPECT_FALSE(logits(run.run_dir()).equal(logits(base_)));
}

TEST_F(LoraRun, ContinuesBitForBit) {
  auto whole = adapters_on_base("whole", {"attention", "layers.*.ffn.shared_experts.*"});
  whole.adapter.dropout = 0.3;
  auto stopped = whole;
  stopped.run.name = "stopped";
  train(whole);
  train(stopped, 2);
  train(stopped);
  expect_same_run(stopped, whole);
  auto all = adapters_on_base("all", kAll), halved = adapters_on_base("halved", kAll);
  train(all);
  train(halved, 3);
  train(halved);
  expect_same_run(halved, all);
}

TEST_F(LoraRun, OfDoraContinuesBitForBitToo) {
  auto whole = adapters_on_base("whole", {"attention", "layers.*.ffn.shared_experts.*"});
  whole.adapter.dora = true;
  auto stopped = whole;
  stopped.run.name = "stopped";
  train(whole);
  train(stopped, 3);
  train(stopped);
  expect_same_run(stopped, whole);
  const auto tensors = tensors_of(whole);
  EXPECT_TRUE(tensors.contains("model/layers.2.attn.wkv.lora_magnitude_vector"));
  EXPECT_FALSE(logits(whole.run_dir()).equal(logits(base_)));
}

TEST_F(LoraRun, RoutingBiasesStay) {
  auto run = adapters_on_base("run", kAll);
  run.train.max_steps = 3;
  train(run);
  const auto stored = read_model(run.run_dir()).weights, base = read_model(base_).weights;
  int64_t biases = 0;
  for (const auto& [name, weight] : base) {
    if (name.ends_with("gate.bias")) {
      expect_bitwise_equal(name, stored.at(name).values, weight.values);
      ++biases;
    }
  }
  EXPECT_EQ(biases, 3);
}

TEST_F(LoraRun, TheSizeOfMicroBatchesDoesNotMatter) {
  auto whole = adapters_on_base("whole", kAll), parts = adapters_on_base("parts", kAll);
  whole.train.dtype = parts.train.dtype = ComputeType::kFloat64;
  whole.train.micro_batch_size = 4;
  parts.train.micro_batch_size = 1;
  train(whole);
  train(parts);
  const auto a = metrics_but_timings(whole), b = metrics_but_timings(parts);
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_NEAR(a[i].at("loss").get<double>(), b[i].at("loss").get<double>(), 1e-10);
  }
}

// One recipe, and one key that differs.
TEST_F(LoraRun, TheSameRecipeTrainsEverythingOrSomeParameters) {
  auto recipe = adapters_on_base("lora", kUsual);
  recipe.optimizer.groups = {{"*.lora_?.weight", OptimizerKind::kMuon, 2, 0.0},
                             {"*ffn.experts.*", OptimizerKind::kAdamW, 1, {}}};
  auto full = recipe, some = recipe;
  full.run.name = "full";
  full.train.parameters = {};
  some.run.name = "some";
  some.train.parameters = {TrainedParameters::Kind::kPatterns, {"layers.*.attn.wkv.weight"}};
  train(recipe);
  const auto everything = train(full);
  expect_mentions(everything.output, {"note: the section adapter is not used"});
  train(some);
  for (const auto& [name, value] : tensors_of(some)) {
    if (!name.starts_with("monitors/")) {
      EXPECT_NE(name.find("attn.wkv.weight"), std::string::npos) << name;
    }
  }
  const auto base = read_model(base_).weights, stored = read_model(full.run_dir()).weights;
  EXPECT_EQ(stored.size(), base.size());
  for (const auto& [name, weight] : stored) {
    EXPECT_EQ(weight.quantized(),  // what no loss trains stays as it is
              base.at(name).quantized() && name.find("indexer") != std::string::npos)
        << name;
  }
}

TEST_F(LoraRun, TrainedParametersThatMatchNothingAreAnError) {
  auto run = adapters_on_base("run", kUsual);
  run.train.parameters = {TrainedParameters::Kind::kPatterns, {"*.attn.wkv.weight", "wq_b"}};
  expect_mentions(error_of([&] { run.validate(); }),
                  {"train.parameters[1]", "'wq_b'", "layers.*.attn.wq_b.weight"});
  run.train.parameters.patterns = {"*.gate.bias"};
  expect_mentions(error_of([&] { run.validate(); }), {"no parameter that can be trained"});
  run.train.parameters = {TrainedParameters::Kind::kLora, {}};
  run.adapter.targets.items = {"wq_b"};
  expect_mentions(error_of([&] { run.validate(); }), {"adapter.targets[0]"});
  run.run.init_from.clear();
  expect_mentions(error_of([&] { run.validate(); }), {"train.parameters", "run.init_from"});
}

TEST_F(LoraRun, SaysWhichAdaptersGetNoGradient) {
  auto run = adapters_on_base("run", kAll);
  run.loss.mtp_weight = run.loss.mtp_decay_weight = run.loss.balance_weight = 0;
  const auto output = train(run).output;
  expect_mentions(
      output,
      {"note: the adapters of 4 matrices of indexers (layers.1.attn.indexer.wq_b.weight, "
       "...) get no gradient and stay zero",
       "note: no loss of step 1 reaches 17 parameters",
       "they are: mtp (17: "});
}

TEST_F(LoraRun, OtherAdaptersCannotContinue) {
  const auto run = adapters_on_base("run", kUsual);
  train(run, 2);
  auto other = run;
  other.adapter.alpha = 16;
  expect_mentions(error_of([&] { train(other); }),
                  {"other trained parameters", "adapter.alpha was 8", "is 16"});
  other = run;
  other.train.parameters = {};
  expect_mentions(error_of([&] { train(other); }), {"there were LoRA adapters"});
  other = run;
  other.adapter.dropout = 0.5;  // of training alone
  other.adapter.targets.items = {"attention"};
  expect_mentions(error_of([&] { train(other); }), {"adapter.targets was"});
}

TEST_F(LoraRun, ARunOnARunWithAdaptersTrainsThemFurther) {
  const auto first = adapters_on_base("first", kUsual);
  train(first);
  auto second = adapters_on_base("second", kUsual);
  second.run.init_from = first.run_dir().string();
  second.train.max_steps = 1;
  second.optimizer.learning_rate = 1e-30;
  const auto output = train(second).output;
  expect_bitwise_equal("logits", logits(second.run_dir()), logits(first.run_dir()));
  auto other = second;
  other.run.name = "other";
  other.adapter.rank = 2;
  expect_mentions(error_of([&] { train(other); }), {"other LoRA adapters", "adapter.rank was 4"});
  other.train.parameters = {};
  expect_mentions(error_of([&] { train(other); }), {"has LoRA adapters", "braid merge"});
  expect_mentions(error_of([&] { convert(first.run_dir(), folder_ / "converted", {}); }),
                  {"has LoRA adapters", "braid merge"});
}

}  // namespace
}  // namespace braid
