#include <filesystem>

#include "core/file.h"
#include "formats/synthesize.h"
#include "tests/commands/cli_test.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using namespace testing;

class ImportConfig : public CliTest {
 protected:
  /// A model with experts that FP4 can store.
  void make_base() const {
    auto model = tiny_model();
    model.hidden_size = model.moe_intermediate_size = 32;
    synthesize_release(
        folder_ / "base", model, {.expert_layers = {0, 1, 2}, .seed = 5, .progress = {}});
  }
};

TEST_F(ImportConfig, WhatItWritesIsPlannedAndTrained) {
  make_base();
  write("chats.jsonl",
        R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})"
        "\n");
  write("recipe.yaml",
        "base_model: base\nadapter: lora\nlora_r: 4\nlora_alpha: 8\n"
        "lora_target_linear: true\n"
        "datasets:\n  - path: chats.jsonl\n    type: chat_template\n"
        "sequence_len: 256\nsample_packing: true\nmicro_batch_size: 1\n"
        "gradient_accumulation_steps: 2\nmax_steps: 2\nlearning_rate: 1e-3\n"
        "optimizer: adamw_torch\nval_set_size: 0\nsave_total_limit: 1\n"
        "output_dir: out/tuned\nsparkle: 3\n");
  const auto imported = braid({"import-config", "recipe.yaml", "-o", "tuned.yaml"});
  ASSERT_EQ(imported.status, 0) << imported.err;
  expect_mentions(imported.out,
                  {"recipe.yaml: a recipe of Axolotl",
                   "lora_r (recipe.yaml:3) -> adapter.rank",
                   "not translated, or in part:",
                   "sparkle (recipe.yaml:"});
  const auto trained = braid({"train", "tuned.yaml", "--set", "tokenizer=bytes"});
  EXPECT_EQ(trained.status, 0) << trained.err;
  EXPECT_TRUE(fs::exists(folder_ / "out/tuned/checkpoints"));
}

TEST_F(ImportConfig, WithoutAFileTheConfigurationAloneIsStandardOutput) {
  write("recipe.yaml", "model_name_or_path: m\nuse_galore: true\n");
  const auto imported = braid({"import-config", "recipe.yaml"});
  ASSERT_EQ(imported.status, 0) << imported.err;
  EXPECT_NO_THROW(parse_config<RunConfig>(imported.out, "out")) << imported.out;
  expect_mentions(imported.err, {"use_galore (recipe.yaml:2): Braid has no GaLore"});
}

TEST_F(ImportConfig, NothingIsOverwrittenAndWrongFilesAreNamed) {
  write("recipe.yaml", "base_model: m\n");
  write("mine.yaml", "run: {name: mine}\n");
  expect_error(braid({"import-config", "recipe.yaml", "-o", "mine.yaml"}), {"mine.yaml"});
  EXPECT_EQ(read_file(folder_ / "mine.yaml"), "run: {name: mine}\n");
  expect_error(braid({"import-config", "run.yaml"}), {"run.yaml", "Axolotl", "LLaMA-Factory"});
  expect_error(braid({"import-config", "absent.yaml"}), {"absent.yaml"});
  expect_mentions(braid({"import-config", "--list"}).out,
                  {"Axolotl\n", "sequence_len -> data.seq_len", "LLaMA-Factory\n"});
}

}  // namespace
}  // namespace braid
