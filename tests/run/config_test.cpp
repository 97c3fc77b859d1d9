#include "run/config.h"

#include <tuple>

#include "data/byte_tokenizer.h"
#include "tests/train/tiny_run.h"

namespace braid {
namespace {

using namespace testing;
using RunConfigTest = TinyRun;

const std::string kConfigs = std::string(BRAID_TEST_DATA) + "/../../configs";

TEST_F(RunConfigTest, TheDumpLoadsToAnEqualConfiguration) {
  auto run = config("run");
  run.model.layer_types = {AttentionKind::kWindow, AttentionKind::kCsa, AttentionKind::kFull};
  run.model.index_topk.reset();
  run.data.validation = {"a file: with 'quotes'.txt"};
  run.optimizer.learning_rate = 1.0 / 3;
  run.optimizer.groups = {{.match = "*.attn_sink", .weight_decay = 0}};
  const auto path = write("config.yaml", dump_config(run));
  EXPECT_EQ(dump_config(load_run_config(path, {})), dump_config(run));
  for (const std::string sets : {"{a: x.txt, b: [y, 'z: 1']}", "[]"}) {
    const auto with_sets = load_run_config(path, {"data.validation=" + sets});
    const auto again = write("again.yaml", dump_config(with_sets));
    EXPECT_EQ(dump_config(load_run_config(again, {})), dump_config(with_sets));
  }
}

TEST_F(RunConfigTest, ATokenizerIsAFileOrAMapping) {
  for (const auto* yaml : {"tokenizer: bytes\n", "tokenizer: {file: bytes}\n"}) {
    const auto run = load_run_config(write("run.yaml", yaml), {"tokenizer.file=bytes"});
    EXPECT_EQ(run.tokenizer, TokenizerConfig());
  }
}

TEST_F(RunConfigTest, RoomForExpertsIsThatOfAGpuBesideABase) {
  const auto run = [&](const std::string& train, const std::string& base = "base") {
    return load_run_config(
        write("run.yaml", "run: {init_from: " + base + "}\ntrain: {" + train + "}\n"),
        {"tokenizer.file=bytes"});
  };
  const auto room = run("device: cuda, resident_gb: 102.5, pinned_gb: 0").expert_room();
  EXPECT_EQ(room.resident, 102.5e9);
  EXPECT_EQ(room.pinned, 0);
  const auto all = run("device: cuda, resident_gb: all").expert_room();
  EXPECT_FALSE(all.resident || all.pinned);
  const auto refused = [&](const std::string& train, std::vector<std::string> parts) {
    parts.push_back("run.yaml:2");
    expect_mentions(error_of([&] { run(train); }), parts);
  };
  refused("device: cuda, resident_gb: -1", {"train.resident_gb", "-1"});
  refused("device: cuda, resident_gb: most", {"train.resident_gb", "a number >= 0", "most"});
  refused("device: cuda, resident_gb: 1, pinned_gb: -2", {"train.pinned_gb", "-2"});
  refused("resident_gb: 1", {"train.resident_gb", "train.device is cpu", "Leave the key out"});
  refused("device: cuda, pinned_gb: 1", {"train.pinned_gb", "train.resident_gb is all"});
  expect_mentions(error_of([&] { run("device: cuda, resident_gb: 1", "''"); }),
                  {"train.resident_gb", "run.init_from"});
}

// Runs of before have `true` or `false` in their config.yaml.
TEST_F(RunConfigTest, TheGramFormMayBeSpelledAsASwitch) {
  for (const auto& [word, form, dumped] :
       {std::tuple{"true", GramForm::kAlways, "always"}, {"false", GramForm::kNever, "never"}}) {
    const auto yaml = text("optimizer: {muon: {newton_schulz_gram: ", word, "}}\n");
    const auto run = load_run_config(write("run.yaml", yaml), {"tokenizer.file=bytes"});
    EXPECT_EQ(run.optimizer.muon.newton_schulz_gram, form);
    EXPECT_NE(dump_config(run).find(text("newton_schulz_gram: ", dumped)), std::string::npos);
  }
}

// Collects the keys that say nothing about themselves.
struct HelpChecker {
  std::vector<std::string> without_help;

  template <class Owner, class T, class... Rules>
  void operator()(const char* key, T Owner::*, const char* help, const Rules&...) {
    if (std::string(help).size() < 5) {
      without_help.emplace_back(key);
    }
    if constexpr (config_detail::is_struct<T>) {
      T::fields(*this);
    }
  }
};

TEST_F(RunConfigTest, Float32ProductsFollowTypeAndDeviceWhereNothingElseIsAsked) {
  TrainSection train;
  const at::Device cpu = at::kCPU, gpu(at::kCUDA, 0);
  EXPECT_EQ(train.products_on(gpu), Float32Products::kExact);
  train.dtype = ComputeType::kBfloat16;
  EXPECT_EQ(train.products_on(cpu), Float32Products::kExact);
  EXPECT_EQ(train.products_on(gpu), Float32Products::kTf32);
  train.float32_products = Float32Products::kExact;
  EXPECT_EQ(train.products_on(gpu), Float32Products::kExact);
}

TEST_F(RunConfigTest, EveryKeyHasHelp) {
  HelpChecker checker;
  RunConfig::fields(checker);
  EXPECT_EQ(checker.without_help, std::vector<std::string>());
}

TEST_F(RunConfigTest, EveryShippedConfigurationLoads) {
  int loaded = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kConfigs)) {
    const auto kind = entry.path().parent_path().filename();
    if (kind == "finetune") {  // on bases that are not here
      EXPECT_NO_THROW(load_config<RunConfig>(entry.path().string())) << entry.path();
    } else if (entry.path().extension() == ".yaml" && kind != "ablations" && kind != "sweeps" &&
               kind != "reproductions") {  // which are sweeps
      EXPECT_NO_THROW(load_run_config(entry.path().string(), {})) << entry.path();
      ++loaded;
    }
  }
  EXPECT_GE(loaded, 5);
}

TEST_F(RunConfigTest, EveryAblationChangesTheQuickstart) {
  const auto quickstart = kConfigs + "/quickstart.yaml";
  int loaded = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kConfigs + "/ablations")) {
    const auto named = "run.name=quickstart";
    const auto changed = load_run_config(quickstart, {named}, {entry.path().string()});
    EXPECT_NE(dump_config(changed), dump_config(load_run_config(quickstart, {named})))
        << entry.path();
    ++loaded;
  }
  EXPECT_GE(loaded, 10);
}

TEST_F(RunConfigTest, NamesThePlaceOfValuesThatDoNotFitTogether) {
  const auto message = [&](const std::string& yaml) {
    const auto path = write("run.yaml", yaml);
    return error_of([&] { load_run_config(path, {}); });
  };
  expect_mentions(message("train:\n  global_batch_size: 4\n  micro_batch_size: 3\n"),
                  {"train.micro_batch_size", "run.yaml:3", "4"});
  expect_mentions(message("model:\n  vocab_size: 256\n"),
                  {"model.vocab_size", "run.yaml:2", "320"});
  expect_mentions(message("data:\n  seq_len: 1\n"), {"data.seq_len", "run.yaml:2"});
  expect_mentions(message("model: {max_position_embeddings: 8}\n"),
                  {"data.seq_len", "max_position_embeddings 8"});
  expect_mentions(message("run: {name: a/b}\n"), {"run.name", "run.yaml:1", "one folder"});
  expect_mentions(message("model: {n_routed_experts: 2, num_experts_per_tok: 3}\n"),
                  {"model.num_experts_per_tok", "run.yaml:1"});
  expect_mentions(message("tokenizer: {file: words}\n"), {"tokenizer.file", "words"});
  const auto file = write("tokenizer.json", byte_tokenizer_json()).string();
  expect_mentions(message("tokenizer: " + file + "\nmodel: {vocab_size: 300}\n"),
                  {"model.vocab_size", "run.yaml:2", "is 300", "'bpe-", "320 ids"});
  expect_mentions(message("tokenizer: no/tokenizer.json\n"),
                  {"tokenizer.file", "run.yaml:1", "no/tokenizer.json", "does not exist"});
  const std::string lora = "run: {init_from: base}\ntrain: {parameters: lora}\n";
  expect_mentions(message(lora + "adapter:\n  targets:\n    - attention\n    - wq_b\n"),
                  {"adapter.targets[1]", "run.yaml:6", "layers.*.attn.wq_b.weight"});
  expect_mentions(message(lora + "adapter: {targets: wq_b}\n"), {"adapter.targets[0]", "yaml:3"});
  expect_mentions(message(lora + "adapter: {rank: 0}\n"), {"adapter.rank", "yaml:3", "1, 65536"});
  expect_mentions(message("train: {parameters: lora}\n"), {"train.parameters", "yaml:1"});
  expect_mentions(message("train: {parameters: half}\n"),
                  {"train.parameters", "full, lora, or a list of patterns"});
  expect_mentions(message("train:\n  parameters:\n    - '*.wkv.weight'\n    - wq_b\n"),
                  {"train.parameters[1]", "run.yaml:4", "layers.*.attn.wq_b.weight"});
  expect_mentions(
      message("train: {dtype: float64}\noptimizer: {muon: {bfloat16_products: true}}\n"),
      {"optimizer.muon.bfloat16_products", "run.yaml:2", "float64"});
  expect_mentions(message("parallel: {context: 2}\nlogging: {samples: {count: 1}}\n"),
                  {"logging.samples.count", "run.yaml:2", "parallel.context is 2"});
  expect_mentions(message("logging: {samples: {temperature: 1e-7}}\n"),
                  {"logging.samples.temperature", "run.yaml:1", "at least 1e-6"});
}

TEST_F(RunConfigTest, AdaptersAreWrittenAsTheyAreRead) {
  const auto path = write("run.yaml",
                          "run: {init_from: base}\n"
                          "train: {parameters: lora}\n"
                          "adapter:\n"
                          "  targets: attention+experts\n"
                          "  rank_pattern: [{match: '*.experts.*', rank: 4}]\n");
  const auto config = load_run_config(path, {});
  ASSERT_TRUE(config.lora());
  EXPECT_EQ(config.lora()->targets.items, (std::vector<std::string>{"attention", "experts"}));
  EXPECT_EQ(config.lora()->rank_pattern.at(0).rank, 4);
  const auto again = load_run_config(write("again.yaml", dump_config(config)), {});
  EXPECT_EQ(dump_config(again), dump_config(config));
  EXPECT_FALSE(load_run_config(path, {"train.parameters=full"}).lora());
  const auto some = load_run_config(path, {"train.parameters=['*.wkv.weight']"});
  EXPECT_TRUE(some.may_train("layers.0.attn.wkv.weight"));
  EXPECT_FALSE(some.may_train("layers.0.attn.wq_a.weight"));
  EXPECT_FALSE(some.may_train("layers.0.ffn.gate.bias"));
}

TEST_F(RunConfigTest, ALengthIsStepsOrEpochsAndNotBoth) {
  const auto path = write("run.yaml", "train:\n  epochs: 3\n");
  const auto config = load_run_config(path, {});
  EXPECT_TRUE(config.train.max_steps.is_by_epochs());
  EXPECT_FALSE(config.train.max_steps.is_known());
  const auto length = [&](const std::vector<std::string>& overrides) {
    return load_run_config(path, overrides).train;
  };
  const auto message = [&](const std::vector<std::string>& overrides) {
    return error_of([&] { load_run_config(path, overrides); });
  };
  expect_mentions(message({"train.max_steps=1000"}),
                  {"train.epochs", "run.yaml:2", "is 3", "train.max_steps is 1000"});
  EXPECT_EQ(length({"train.max_steps=500", "train.epochs=off"}).max_steps, 500);
  EXPECT_EQ(length({"train.epochs=off"}).max_steps, 1000);
  expect_mentions(message({"train.max_steps=by epochs", "train.epochs=off"}),
                  {"train.max_steps", "train.epochs is off"});
  expect_mentions(message({"train.epochs=0"}), {"train.epochs", "> 0"});
  expect_mentions(message({"train.max_steps=many"}), {"train.max_steps", "whole number"});
  expect_mentions(message({"data.train=[{path: a, weight: 1}, {path: b, weight: 2}]"}),
                  {"train.epochs", "weights"});
  expect_mentions(message({"train.epochs=2", "data.train=[{task: recall}]"}),
                  {"train.epochs", "never ends"});
  EXPECT_NO_THROW(length({"data.train=[a, b]"}));

  // As the configuration of a run has it once they are counted.
  auto counted = config;
  counted.train.max_steps = StepCount::by_epochs(1234);
  const auto written = write("config.yaml", dump_config(counted));
  const auto again = load_run_config(written, {});
  EXPECT_EQ(again.train.max_steps, 1234);
  EXPECT_EQ(dump_config(again), dump_config(counted));
  EXPECT_EQ(load_run_config(written, {"train.epochs=5"}).train.epochs, 5);
  EXPECT_EQ(dump_config(load_run_config(write("open.yaml", dump_config(config)), {})),
            dump_config(config));
}

}  // namespace
}  // namespace braid
