// Messages are sentences of ours, with the file or key and what to do; no library's own text.
#include "tests/commands/cli_test.h"

namespace braid {
namespace {

using testing::expect_error;

class Messages : public testing::CliTest {};

TEST_F(Messages, AbsentPathsAreNamed) {
  expect_error(braid({"inspect", "nowhere"}), {"nowhere"});
  expect_error(braid({"generate", "nowhere", "--prompt", "a"}), {"nowhere"});
  expect_error(
      braid({"probe", "nowhere", "--inputs", "x.safetensors", "--outputs", "y.safetensors"}),
      {"x.safetensors", "No such file"});
}

TEST_F(Messages, ResumeWantsACheckpointAndSaysSo) {
  train_run({"--stop-at-step", "1"});
  expect_error(braid({"train", "run.yaml", "--resume", "runs/run"}),
               {"--resume runs/run", "the folder of a run", "--resume auto", "checkpoints/step-"});
  expect_error(braid({"train", "run.yaml", "--resume", "runs"}),
               {"--resume runs", "no checkpoint", "COMPLETE"});
}

TEST_F(Messages, AnUnusableFolderForTemporaryFilesIsNamed) {
  train_run({"--stop-at-step", "1"});
  const std::vector<std::string> evaluate = {"evaluate", "runs/run", "--data", "corpus.txt"};
  expect_error(braid(evaluate, {.environment = {"TMPDIR=/nowhere"}}),
               {"TMPDIR is /nowhere", "set TMPDIR"});
  expect_error(braid(evaluate, {.environment = {"TMPDIR=/proc"}}), {"/proc", "set TMPDIR"});
}

TEST_F(Messages, BrokenJsonAndYamlAreToldInOurWords) {
  write("model/model.safetensors.index.json", "{\n  \"weight_map\": {,}\n}\n");
  write("model/config.json", "{\"model_type\": \"deepseek_v4\"");
  auto outcome = braid({"inspect", "model"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_EQ(outcome.err.find("json.exception"), std::string::npos) << outcome.err;
  write("broken.yaml", "base: run.yaml\nrun:\n\tname: x\n");
  expect_error(braid({"plan", "broken.yaml"}), {"broken.yaml:3", "indent with spaces"});
}

// Everything is written to files here: no line may be rewritten in them.
TEST_F(Messages, ProgressLeavesNoControlCharactersInFiles) {
  const auto trained = braid({"train", "run.yaml"});
  const auto converted = braid({"convert", "runs/run", "copy", "--to", "checkpoint"});
  const auto evaluated = braid({"evaluate", "runs/run", "--data", "corpus.txt"});
  for (const auto& outcome : {trained, converted, evaluated}) {
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ((outcome.out + outcome.err).find_first_of("\r\033"), std::string::npos);
  }
}

TEST_F(Messages, TheTableOfParametersIsShortAndShownOnce) {
  const auto first = braid({"train", "run.yaml", "--stop-at-step", "1"});
  testing::expect_mentions(first.out, {"optimizer  lr  decay", "muon", "adamw", "braid plan"});
  EXPECT_EQ(first.out.find("attn.wq_a"), std::string::npos);
  const auto second = braid({"train", "run.yaml"});
  EXPECT_EQ(second.status, 0) << second.err;
  EXPECT_EQ(second.out.find("optimizer  lr"), std::string::npos);
}

}  // namespace
}  // namespace braid
