// The recipes of configs/finetune/, each on a base and a text of a test's size.
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "checkpoint/history.h"
#include "checkpoint/store.h"
#include "core/parameter_names.h"
#include "tests/commands/cli_test.h"

namespace braid {
namespace {

using Strings = std::vector<std::string>;

const std::string kConfigs = std::string(BRAID_TEST_DATA) + "/../../configs/";

class Finetune : public testing::CliTest {
 protected:
  Strings recipe(const std::string& name,
                 const std::string& run,
                 const std::string& parameters) const {
    Strings words = {"train", kConfigs + "finetune/" + name};
    for (const auto& setting : Strings{"run.name=" + run,
                                       "run.init_from=base.checkpoint",
                                       "train.parameters=" + parameters,
                                       "tokenizer.file=bytes",
                                       "data.train=[corpus.txt]",
                                       "data.validation=[]",
                                       "data.document_separator=%",
                                       "data.seq_len=32",
                                       "train.global_batch_size=2",
                                       "train.micro_batch_size=2",
                                       "train.max_steps=2"}) {
      words.insert(words.end(), {"--set", setting});
    }
    return words;
  }

  std::set<std::string> trained(const std::string& run) const {
    std::set<std::string> names;
    const auto checkpoint =
        load_checkpoint(*newest_complete_checkpoint(folder_ / "runs" / run / "checkpoints"));
    for (const auto& [name, value] : checkpoint.tensors) {
      if (name.starts_with("model/")) {
        names.insert(name.substr(6));
      }
    }
    return names;
  }
};

TEST_F(Finetune, TheTinyRecipeTrainsAdaptersOrWithOneKeyOtherwiseEverything) {
  train_run({"--set", "train.max_steps=1"});
  ASSERT_EQ(braid({"convert", "runs/run", "base.checkpoint", "--to", "checkpoint"}).status, 0);
  for (const auto& [run, parameters] :
       {std::pair{"lora", "lora"}, {"full", "full"}, {"some", "[layers.*.attn.wkv.weight]"}}) {
    const auto outcome = braid(recipe("tiny-lora.yaml", run, parameters));
    ASSERT_EQ(outcome.status, 0) << outcome.err;
  }
  for (const auto& name : trained("lora")) {
    EXPECT_TRUE(is_adapter(name)) << name;
  }
  EXPECT_TRUE(trained("full").contains("embed.weight"));
  EXPECT_EQ(
      trained("some"),
      (std::set<std::string>{
          "layers.0.attn.wkv.weight", "layers.1.attn.wkv.weight", "layers.2.attn.wkv.weight"}));
}

TEST_F(Finetune, AdaptersAreExportedAddedAndMerged) {
  train_run({"--set", "train.max_steps=1"});
  ASSERT_EQ(braid({"convert", "runs/run", "base.checkpoint", "--to", "checkpoint"}).status, 0);
  ASSERT_EQ(braid(recipe("tiny-lora.yaml", "lora", "lora")).status, 0);
  const auto exported = braid({"convert", "runs/lora", "adapter", "--to", "peft"});
  ASSERT_EQ(exported.status, 0) << exported.err;
  EXPECT_NE(exported.out.find("adapter: adapters of "), std::string::npos) << exported.out;
  const auto generated = [&](Strings words) {
    words.insert(words.begin(), "generate");
    words.insert(words.end(), {"--prompt", "a", "--max-tokens", "4", "--tokenizer", "bytes"});
    const auto outcome = braid(words);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return outcome.out;
  };
  EXPECT_EQ(generated({"base.checkpoint", "--adapter", "adapter"}), generated({"runs/lora"}));
  EXPECT_EQ(braid({"evaluate",
                   "base.checkpoint",
                   "--adapter",
                   "adapter",
                   "--data",
                   "corpus.txt",
                   "--seq-len",
                   "32",
                   "--tokenizer",
                   "bytes"})
                .status,
            0);
  const auto merged = braid({"merge", "base.checkpoint", "adapter", "merged", "--layout", "f32"});
  ASSERT_EQ(merged.status, 0) << merged.err;
  EXPECT_NE(merged.out.find("of which 100 % survived"), std::string::npos) << merged.out;
  generated({"merged"});
  expect_error(braid({"merge", "base.checkpoint", "unmade"}), {"has no adapters of its own"});
  expect_error(braid({"merge", "base.checkpoint", "base.checkpoint", "again"}),
               {"has no LoRA adapters"});
  expect_error(braid({"generate", "base.checkpoint", "--adapter", "none"}),
               {"none", "no such folder"});
  expect_error(braid({"convert", "runs/lora", "out", "--to", "release"}),
               {"braid merge", "convert --to peft"});
}

TEST_F(Finetune, EvaluateComparesAdaptersWithTheirBaseAndShowsWhatBothAnswer) {
  train_run({"--set", "train.max_steps=1"});
  ASSERT_EQ(braid({"convert", "runs/run", "base.checkpoint", "--to", "checkpoint"}).status, 0);
  ASSERT_EQ(braid(recipe("tiny-lora.yaml", "lora", "lora")).status, 0);
  ASSERT_EQ(braid({"convert", "runs/lora", "adapter", "--to", "peft"}).status, 0);
  std::string lines;
  for (int i = 0; i < 6; ++i) {
    lines += text(R"({"messages": [{"role": "user", "content": "say )", i, R"("}, )");
    lines += text(R"({"role": "assistant", "content": "it is )", i, "\"}]}\n");
  }
  write("chat.jsonl", lines);
  const auto evaluated = [&](Strings words) {
    words.insert(words.begin(), "evaluate");
    words.insert(words.end(), {"--data", "chat.jsonl", "--seq-len", "64"});
    return braid(words);
  };
  const auto figures = [&](Strings words) {
    words.emplace_back("--json");
    const auto outcome = evaluated(words);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return nlohmann::json::parse(outcome.out);
  };
  const auto base = figures({"base.checkpoint"});
  const auto both =
      figures({"base.checkpoint", "--adapter", "adapter", "--samples", "2", "--max-tokens", "5"});
  EXPECT_FALSE(base.contains("base"));
  EXPECT_EQ(both.at("base").at("loss"), base.at("loss"));
  EXPECT_EQ(both.at("base").at("roles"), base.at("roles"));
  EXPECT_NE(both.at("loss"), base.at("loss"));
  EXPECT_EQ(both.at("comparison")[0].at("difference").get<double>(),
            both.at("loss").get<double>() - base.at("loss").get<double>());
  ASSERT_EQ(both.at("samples").size(), 2u);
  EXPECT_EQ(both.at("samples")[1].at("document"), 4);
  EXPECT_EQ(both.at("samples")[1].at("reference"), "it is 3");
  EXPECT_LE(both.at("samples")[1].at("base_answer").at("tokens"), 5);
  EXPECT_EQ(both.at("answers").at("references_with_a_word"), 2);

  const auto of_run = figures({"runs/lora"});
  EXPECT_EQ(of_run.at("loss"), both.at("loss"));
  EXPECT_EQ(of_run.at("base").at("loss"), base.at("loss"));
  EXPECT_FALSE(figures({"runs/lora", "--against", "none"}).contains("base"));
  const auto against = figures({"runs/lora", "--against", "runs/run"});
  EXPECT_EQ(against.at("base").at("loss"), base.at("loss"));

  const auto table = evaluated({"runs/lora", "--samples", "1", "--max-tokens", "3"}).out;
  testing::expect_mentions(table,
                           {"<｜User｜>say 0<｜Assistant｜></think>",
                            "--- reference\nit is 0\n",
                            "--- base",
                            "--- tuned",
                            "loss of assistant, text",
                            "difference",
                            "same first word"});
  expect_error(evaluated({"base.checkpoint", "--against", "base"}), {"no adapters", "--against"});
  expect_error(evaluated({"base.checkpoint", "--against", "absent"}), {"absent"});
  expect_error(braid({"evaluate", "runs/run", "--data", "corpus.txt", "--samples", "1"}),
               {"--samples", "no conversation"});
  const auto no_room = evaluated({"runs/run", "--samples", "1", "--max-tokens", "10000000"});
  EXPECT_EQ(no_room.status, 1);
  testing::expect_mentions(no_room.err, {"--max-tokens 10000000", "max_position_embeddings"});
}

TEST_F(Finetune, APlanHasTheStepsThatTheRunMakesOfItsEpochs) {
  const Strings epochs = {
      "run.yaml", "--set", "train.epochs=1.5", "--set", "train.max_steps=by epochs"};
  Strings plan = {"plan", "--json", "--flops-per-second", "1e9"}, run = {"train"};
  plan.insert(plan.end(), epochs.begin(), epochs.end());
  run.insert(run.end(), epochs.begin(), epochs.end());
  const auto planned = braid(plan);
  ASSERT_EQ(planned.status, 0) << planned.err;
  const auto trained = braid(run);
  ASSERT_EQ(trained.status, 0) << trained.err;
  const auto steps = nlohmann::json::parse(planned.out).at("run").at("steps").get<int64_t>();
  testing::expect_mentions(trained.out, {text("train.epochs 1.5: ", steps, " steps")});
  const auto runs = braid({"runs", "--json"});
  EXPECT_EQ(nlohmann::json::parse(runs.out).at("runs")[0].at("max_steps"), steps);
  EXPECT_EQ(nlohmann::json::parse(runs.out).at("runs")[0].at("state"), "finished");
  run[1] = "runs/run/config.yaml";
  run.resize(2);
  testing::expect_mentions(braid(run).out, {"The run is finished", "Raise train.epochs"});
}

TEST_F(Finetune, AModelThatLearnedACallMakesItInChatAndAnswersWithItsResult) {
  const std::string tools = R"([{"type": "function", "function": {"name": "add"}}])";
  write("tools.json", tools);
  write("calls.jsonl",
        R"({"messages": [{"role": "user", "content": "2 and 1"}, {"role": "assistant", )"
        R"("content": "", "tool_calls": [{"type": "function", "id": "1", "function": )"
        R"({"name": "add", "arguments": "{\"a\": 2, \"b\": 1}"}}]}, {"role": "tool", )"
        R"("tool_call_id": "1", "content": "3"}, {"role": "assistant", "content": "It is 3."}], )"
        R"("tools": )" +
            tools + "}\n");
  write("calls.yaml", "base: " + kConfigs + R"(models/tiny.yaml
run: {name: calls}
model: {sliding_window: 32}
data: {train: [calls.jsonl], validation_fraction: 0, seq_len: 1200, validation_seq_len: 1200}
train: {max_steps: 200, global_batch_size: 1, micro_batch_size: 1, validate_every_steps: 0}
optimizer: {learning_rate: 2e-2, weight_decay: 0}
schedule: {kind: linear, warmup_steps: 10}
)");
  const auto trained = braid({"train", "calls.yaml"});
  ASSERT_EQ(trained.status, 0) << trained.err;
  const auto chat = braid({"chat", "runs/calls", "--tools", "tools.json", "--temperature", "0"},
                          {.input = "2 and 1\n/result 3\n"});
  EXPECT_EQ(chat.status, 0) << chat.err;
  EXPECT_NE(chat.out.find("call add {\"a\": 2, \"b\": 1}"), std::string::npos) << chat.out;
  EXPECT_NE(chat.out.find("It is 3."), std::string::npos) << chat.out;
}

// On how many ranks a recipe is to be run, by the command in its first lines.
std::string ranks_of(const std::filesystem::path& recipe) {
  std::ifstream file(recipe);
  std::stringstream content;
  content << file.rdbuf();
  std::smatch found;
  const auto said = content.str();
  return std::regex_search(said, found, std::regex("-n ([0-9]+) ")) ? found[1].str() : "1";
}

TEST_F(Finetune, EveryRecipePlansOnABaseOfItsSize) {
  write("tiny.yaml", "base: " + kConfigs + "finetune/tiny-base.yaml\ntokenizer: bytes\n");
  const auto make = [&](Strings words) {
    words.insert(words.begin(), "synthesize");
    const auto made = braid(words);
    ASSERT_EQ(made.status, 0) << made.err;
  };
  make({"tiny", "--model", "tiny.yaml", "--sizes-only"});
  make({"flash", "--model", kConfigs + "models/flash.yaml", "--sizes-only", "--layers", "0,2,3"});
  int recipes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kConfigs + "finetune")) {
    const auto name = entry.path().filename().string();
    Strings words = {"plan",
                     entry.path(),
                     "--ranks",
                     ranks_of(entry.path()),
                     "--flops-per-second",
                     "1e12",
                     "--set",
                     "tokenizer.file=bytes"};
    if (name != "tiny-base.yaml") {
      words.insert(words.end(),
                   {"--set", text("run.init_from=", name.starts_with("flash") ? "flash" : "tiny")});
    }
    const auto planned = braid(words);
    EXPECT_EQ(planned.status, 0) << name << ": " << planned.err;
    ++recipes;
  }
  EXPECT_GE(recipes, 7);
}

}  // namespace
}  // namespace braid
