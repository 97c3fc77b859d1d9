// The recipes of configs/finetune/, each on a base and a text of a test's size.
#include <set>

#include "checkpoint/history.h"
#include "checkpoint/store.h"
#include "core/parameter_names.h"
#include "tests/commands/cli_test.h"

namespace braid {
namespace {

using Strings = std::vector<std::string>;

class Finetune : public testing::CliTest {
 protected:
  Strings recipe(const std::string& name,
                 const std::string& run,
                 const std::string& parameters) const {
    Strings words = {"train", std::string(BRAID_TEST_DATA) + "/../../configs/finetune/" + name};
    for (const auto& setting : Strings{"run.name=" + run,
                                       "run.init_from=base.checkpoint",
                                       "train.parameters=" + parameters,
                                       "data.train=[corpus.txt]",
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

}  // namespace
}  // namespace braid
