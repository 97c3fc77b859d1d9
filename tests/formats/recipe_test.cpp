#include "formats/recipe.h"

#include <algorithm>
#include <filesystem>

#include "core/file.h"
#include "optim/schedule.h"
#include "run/config.h"
#include "tests/train/tiny_run.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using namespace testing;

const fs::path kRecipes = fs::path(BRAID_TEST_DATA) / "recipes";

/// Paths within recipes are those of the folder in which they are imported.
class RecipeTest : public TinyRun {
 protected:
  RecipeTest() : before_(fs::current_path()) {
    fs::copy(kRecipes, folder_ / "recipes", fs::copy_options::recursive);
    fs::current_path(folder_ / "recipes");
    write_file_atomically("train.jsonl", "{}\n");
  }
  ~RecipeTest() override { fs::current_path(before_); }

  static ImportedRecipe imported(const std::string& yaml, const RecipeOptions& options = {}) {
    write_file_atomically("recipe.yaml", yaml);
    return import_recipe("recipe.yaml", options);
  }

  /// As `braid train` reads the file.
  RunConfig read(const ImportedRecipe& recipe) const {
    return load_config<RunConfig>(write("imported.yaml", recipe.yaml)).value;
  }

 private:
  fs::path before_;
};

std::vector<std::string> keys_of(const std::vector<RecipeRemark>& remarks) {
  std::vector<std::string> keys;
  for (const auto& remark : remarks) {
    keys.push_back(remark.key);
  }
  std::ranges::sort(keys);
  return keys;
}

std::string text_of(const ImportedRecipe& recipe, const std::string& key) {
  for (const auto& remark : recipe.not_translated) {
    if (remark.key == key) {
      return remark.text;
    }
  }
  return "";
}

TEST_F(RecipeTest, AnAxolotlRecipeBecomesARun) {
  const auto recipe = import_recipe("axolotl.yaml", {.processes = 8});
  EXPECT_EQ(recipe.framework, "Axolotl");
  const auto run = read(recipe);
  EXPECT_EQ(run.run.init_from, "deepseek-ai/DeepSeek-V4-Flash-0731");
  EXPECT_EQ(run.model.source, ModelSource::kBase);
  EXPECT_EQ(run.run.name, "lora-out");
  EXPECT_EQ(run.run.output_dir, "outputs/flash");
  ASSERT_EQ(run.data.train.size(), 2u);
  EXPECT_EQ(run.data.train[0].path, "train.jsonl");
  EXPECT_EQ(run.data.train[0].format, SampleFormat::kShareGpt);
  EXPECT_EQ(run.data.train[1].format, SampleFormat::kMessages);
  EXPECT_EQ(run.data.train_on_eos, TrainOnEos::kAll);
  EXPECT_EQ(run.data.validation_fraction, 0.05);
  EXPECT_EQ(run.data.seq_len, 4096);
  EXPECT_EQ(run.data.too_long, TooLong::kDrop);
  EXPECT_EQ(run.train.parameters.kind, TrainedParameters::Kind::kLora);
  EXPECT_EQ(run.train.micro_batch_size, 2);
  EXPECT_EQ(run.train.global_batch_size, 2 * 4 * 8);
  EXPECT_EQ(run.train.max_steps, 200);
  EXPECT_EQ(run.train.dtype, ComputeType::kBfloat16);
  EXPECT_EQ(run.train.recompute_sublayers, 2);
  EXPECT_EQ(run.adapter.rank, 32);
  EXPECT_EQ(run.adapter.alpha, 16);
  EXPECT_TRUE(run.adapter.rslora);
  const std::vector<std::string> targets = {"layers.*.attn.wq_a.weight",
                                            "layers.*.attn.wkv.weight",
                                            "layers.*.ffn.experts.*.w1.weight",
                                            "layers.*.ffn.experts.*.w3.weight",
                                            "layers.*.ffn.experts.*.w2.weight"};
  EXPECT_EQ(run.adapter.targets.items, targets);
  EXPECT_EQ(run.optimizer.learning_rate, 2e-4);
  EXPECT_EQ(run.optimizer.weight_decay, 0.01);
  EXPECT_EQ(run.optimizer.adamw.beta2, 0.95);
  EXPECT_EQ(run.optimizer.adamw.epsilon, 1e-8) << "the other framework's default";
  EXPECT_TRUE(run.optimizer.groups.empty()) << "adapters have AdamW by themselves";
  EXPECT_EQ(run.schedule.kind, ScheduleKind::kCosine);
  EXPECT_EQ(warmup_steps(run.schedule, 200), 20);
  EXPECT_EQ(run.schedule.min_ratio, 0);
  EXPECT_EQ(run.loss.mtp_weight, 0);
  EXPECT_EQ(run.checkpoint.keep_last, 3);
  EXPECT_EQ(run.logging.every_steps, 1);
}

TEST_F(RecipeTest, WhatCannotBeTranslatedIsListedWithPlaceAndReason) {
  const auto recipe = import_recipe("axolotl.yaml");
  const std::vector<std::string> left = {"base_model",
                                         "datasets[0].shards",
                                         "datasets[1].path",
                                         "datasets[1].split",
                                         "evals_per_epoch",
                                         "lora_target_modules",
                                         "neftune_noise_alpha",
                                         "saves_per_epoch",
                                         "sparkle_factor",
                                         "special_tokens"};
  EXPECT_EQ(keys_of(recipe.not_translated), left);
  expect_mentions(text_of(recipe, "lora_target_modules"), {"q_proj", "no module", "q_a_proj"});
  expect_mentions(text_of(recipe, "sparkle_factor"), {"does not have"});
  for (const auto& remark : recipe.not_translated) {
    EXPECT_TRUE(remark.place.starts_with("axolotl.yaml:")) << remark.key << " " << remark.place;
    expect_mentions(recipe.yaml, {"#   " + remark.key + ": "});
  }
  const auto& unneeded = recipe.unneeded;
  EXPECT_NE(std::ranges::find(unneeded, "flash_attention"), unneeded.end());
  EXPECT_EQ(std::ranges::find(unneeded, "wandb_project"), unneeded.end()) << "has no value";
}

TEST_F(RecipeTest, ALlamaFactoryRecipeBecomesARun) {
  const auto recipe = import_recipe("llama_factory.yaml");
  EXPECT_EQ(recipe.framework, "LLaMA-Factory");
  const auto run = read(recipe);
  EXPECT_EQ(run.run.init_from, "models/flash");
  EXPECT_EQ(run.run.name, "sft");
  EXPECT_EQ(run.run.output_dir, "saves/flash/full");
  EXPECT_EQ(run.train.parameters.kind, TrainedParameters::Kind::kFull);
  ASSERT_EQ(run.data.train.size(), 3u);
  EXPECT_EQ(run.data.train[0].path, "data/identity.json");
  EXPECT_EQ(run.data.train[0].format, SampleFormat::kAlpaca);
  EXPECT_EQ(run.data.train[2].path, "data/chats.jsonl");
  EXPECT_EQ(run.data.train[2].format, SampleFormat::kMessages);
  EXPECT_EQ(run.data.train[2].max_samples, 1000);
  EXPECT_TRUE(run.data.mask_history);
  EXPECT_EQ(run.data.too_long, TooLong::kCut);
  EXPECT_EQ(run.train.global_batch_size, 2);
  EXPECT_EQ(run.train.recompute_sublayers, 2) << "on unless it is disabled";
  ASSERT_EQ(run.optimizer.groups.size(), 1u);
  EXPECT_EQ(run.optimizer.groups[0].optimizer, OptimizerKind::kAdamW);
  EXPECT_EQ(run.checkpoint.every_steps, 500);
  EXPECT_EQ(run.train.validate_every_steps, 500);
  const std::vector<std::string> left = {
      "dataset", "deepspeed", "model_name_or_path", "packing", "template"};
  EXPECT_EQ(keys_of(recipe.not_translated), left);
  expect_mentions(text_of(recipe, "dataset"), {"'alpaca_en_demo' is on a hub"});
  EXPECT_EQ(run.train.epochs, 3);
  EXPECT_EQ(run.schedule.warmup_share, 0.1);
  EXPECT_EQ(run.data.validation_fraction, 0.1);
}

TEST_F(RecipeTest, EpochsAreEpochsUnlessStepsOrWeightsOfSourcesDecide) {
  const auto axolotl = [&](const std::string& more) {
    return imported("base_model: m\nmicro_batch_size: 1\ndatasets: [{path: train.jsonl}]\n" + more);
  };
  EXPECT_EQ(read(axolotl("num_epochs: 1.5")).train.epochs, 1.5);
  EXPECT_EQ(read(axolotl("")).train.epochs, 1) << "Axolotl's default";
  const auto steps = read(axolotl("num_epochs: 2\nmax_steps: 30")).train;
  EXPECT_FALSE(steps.epochs);
  EXPECT_EQ(steps.max_steps, 30);
  EXPECT_EQ(read(imported("{model_name_or_path: m, dataset: identity}")).train.epochs, 3)
      << "LLaMA-Factory's default";
}

TEST_F(RecipeTest, SharesOfStepsThatEpochsCount) {
  const auto schedule = [&](const std::string& more) {
    return read(imported("base_model: m\nmicro_batch_size: 1\nnum_epochs: 2\n" + more)).schedule;
  };
  EXPECT_EQ(schedule("warmup_ratio: 0.05").warmup_share, 0.05);
  EXPECT_EQ(schedule("warmup_steps: 0.2").warmup_share, 0.2);
  EXPECT_EQ(schedule("").warmup_share, 0.03) << "Axolotl's default";
  const auto steps = schedule("warmup_steps: 7\nwarmup_ratio: 0.05");
  EXPECT_FALSE(steps.warmup_share) << "a count goes before a share";
  EXPECT_EQ(steps.warmup_steps, 7);
  EXPECT_EQ(schedule("max_steps: 50\nwarmup_ratio: 0.05").warmup_share, 0.05);
  const auto recipe = imported("base_model: m\nnum_epochs: 2\nval_set_size: 0.05\neval_steps: 0.1");
  EXPECT_EQ(read(recipe).data.validation_fraction, 0.05);
  expect_mentions(text_of(recipe, "eval_steps"),
                  {"0.1 of all steps", "set train.validate_every_steps to 0.1 of them"});
}

TEST_F(RecipeTest, DefaultsAreThoseOfTheOtherFramework) {
  const auto run = read(imported("{model_name_or_path: m, dataset: identity, max_steps: 10}"));
  EXPECT_EQ(run.train.parameters.kind, TrainedParameters::Kind::kLora);
  EXPECT_EQ(run.adapter.rank, 8);
  EXPECT_EQ(run.adapter.alpha, 16);
  EXPECT_EQ(run.optimizer.learning_rate, 5e-5);
  EXPECT_EQ(run.schedule.kind, ScheduleKind::kLinear);
  EXPECT_EQ(run.schedule.warmup_steps, 0);
  EXPECT_EQ(run.data.seq_len, 2048);
  const auto& targets = run.adapter.targets.items;
  EXPECT_NE(std::ranges::find(targets, "layers.*.attn.indexer.wq_b.weight"), targets.end());
  EXPECT_EQ(std::ranges::find(targets, "layers.*.attn.wo_a.weight"), targets.end());
}

TEST_F(RecipeTest, ANameOfAModuleTakesAllThatEndSo) {
  const auto run =
      read(imported("{base_model: m, adapter: lora, lora_target_modules: [kv_proj, shared_experts."
                    "up_proj]}"));
  const std::vector<std::string> targets = {"layers.*.attn.wkv.weight",
                                            "layers.*.attn.compressor.wkv.weight",
                                            "layers.*.attn.indexer.compressor.wkv.weight",
                                            "layers.*.ffn.shared_experts.w3.weight"};
  EXPECT_EQ(run.adapter.targets.items, targets);
}

TEST_F(RecipeTest, PreferencesAreTranslated) {
  const auto run = read(imported("{model_name_or_path: m, stage: dpo, pref_beta: 0.2}"));
  EXPECT_EQ(run.loss.objective, ObjectiveKind::kPreference);
  EXPECT_EQ(run.loss.preference_beta, 0.2);
  EXPECT_EQ(run.data.format, SampleFormat::kPreference);
}

TEST_F(RecipeTest, AValueOutOfRangeIsAnErrorWithTheRecipesLine) {
  expect_mentions(error_of([] { imported("base_model: m\nadapter: lora\nlora_r: 0\n"); }),
                  {"adapter.rank (recipe.yaml:3)", "0"});
  expect_mentions(error_of([] { imported("base_model: m\nlearning_rate: fast\n"); }),
                  {"recipe.yaml:2", "fast"});
}

TEST_F(RecipeTest, AnotherFileIsRefused) {
  expect_mentions(error_of([] { imported("data: {train: [a.txt]}\n"); }),
                  {"base_model", "model_name_or_path"});
  expect_mentions(error_of([] { imported("[1, 2]\n"); }), {"recipe.yaml", "expected keys"});
}

TEST_F(RecipeTest, EveryRowNamesKeysOfARun) {
  const auto known = describe_config<RunConfig>();
  for (const auto& row : recipe_rows()) {
    for (std::size_t begin = 0; begin < row.ours.size();) {
      const auto end = std::min(row.ours.find(", ", begin), row.ours.size());
      const auto key = row.ours.substr(begin, end - begin);
      EXPECT_NE(("\n" + known).find("\n" + key), std::string::npos) << row.key << ": " << key;
      begin = end + 2;
    }
  }
}

TEST_F(RecipeTest, TheDocumentationHasEveryKeyThatIsTranslated) {
  const auto page = read_file(fs::path(BRAID_TEST_DATA) / "../../docs/finetuning.md");
  for (const auto& row : recipe_rows()) {
    if (!row.ours.empty()) {
      EXPECT_NE(page.find("`" + row.key + "`"), std::string::npos) << row.framework << row.key;
    }
  }
}

}  // namespace
}  // namespace braid
