// Flags, help and exit statuses.
#include "tests/commands/cli_test.h"

namespace braid {
namespace {

using CommandLine = testing::CliTest;

TEST_F(CommandLine, EveryCommandHasHelpWithAnExample) {
  const auto help = braid({"--help"});
  EXPECT_EQ(help.status, 0);
  for (const std::string command : {"train", "plan", "generate", "evaluate", "inspect", "probe"}) {
    testing::expect_mentions(help.out, {command});
    const auto of_command = braid({command, "--help"});
    EXPECT_EQ(of_command.status, 0);
    testing::expect_mentions(of_command.out,
                             {"Usage: braid " + command, "Example:\n  braid " + command});
  }
}

TEST_F(CommandLine, HelpConfigPrintsEverySectionWithoutAFile) {
  const auto help = braid({"train", "--help-config"});
  EXPECT_EQ(help.status, 0);
  testing::expect_mentions(help.out,
                           {"run.seed",
                            "model.hidden_size",
                            "data.seq_len",
                            "train.max_steps",
                            "optimizer.learning_rate",
                            "schedule.kind",
                            "loss.mtp_weight",
                            "checkpoint.keep_last",
                            "logging.every_steps"});
}

TEST_F(CommandLine, AWrongOneEndsWithStatusTwoAndTheReason) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> wrong = {
      {{}, "command is required"},
      {{"trian", "run.yaml"}, "trian"},
      {{"train"}, "config"},
      {{"train", "run.yaml", "--sed", "1"}, "--sed"},
      {{"generate"}, "model"},
      {{"generate", "runs/run", "--temperature", "-1"}, "--temperature"},
      {{"generate", "runs/run", "--temperature", "1e-9"}, "--temperature"},
      {{"generate", "runs/run", "--top-p", "1.1"}, "--top-p"},
      {{"generate", "runs/run", "--top-k", "-1"}, "--top-k"},
      {{"generate", "runs/run", "--stop", ""}, "--stop"},
      {{"generate", "runs/run", "--num-samples", "0"}, "--num-samples"},
      {{"generate", "runs/run", "--max-tokens", "many"}, "--max-tokens"},
      {{"evaluate", "runs/run"}, "--data"},
      {{"evaluate", "--data", "corpus.txt"}, "model"},
      {{"evaluate", "runs/run", "--data", "corpus.txt", "--seq-len", "1"}, "--seq-len"},
      {{"evaluate", "runs/run", "--data", "corpus.txt", "--batch-size", "0"}, "--batch-size"},
      {{"evaluate", "runs/run", "--data", "corpus.txt", "--dtype", "int8"}, "int8"},
      {{"inspect"}, "path"},
      {{"inspect", "runs/run", "--verfiy"}, "--verfiy"},
      {{"train", "--dry-run"}, "config"},
      {{"plan"}, "config"},
      {{"plan", "run.yaml", "--ranks", "0"}, "--ranks"},
      {{"probe", "runs/run", "--inputs", "x"}, "--outputs"},
      {{"probe", "runs/run", "--inputs", "x", "--outputs", "y", "--dtype", "int8"}, "int8"},
  };
  for (const auto& [arguments, reason] : wrong) {
    const auto outcome = braid(arguments);
    EXPECT_EQ(outcome.status, 2) << outcome.err;
    testing::expect_mentions(outcome.err, {reason});
  }
}

TEST_F(CommandLine, TheInstructionSetIsSaidAndCanBeLimited) {
  const std::vector<std::string> one_step = {"train", "run.yaml", "--set", "train.max_steps=1"};
  const auto limited = braid(one_step, {.environment = {"BRAID_CPU_ISA=baseline"}});
  EXPECT_EQ(limited.status, 0) << limited.err;
  testing::expect_mentions(limited.out, {"/runs/run, ", "), baseline\n"});
  testing::expect_error(braid(one_step, {.environment = {"BRAID_CPU_ISA=neon"}}),
                        {"BRAID_CPU_ISA is 'neon'", "expected baseline, avx2"});
}

TEST_F(CommandLine, OverlaysWinOverTheRunAndNameIt) {
  write("plain.yaml", "model: {residual: plain}\n");
  write("short.yaml", "train: {max_steps: 1}\n");
  const auto outcome = braid({"train", "run.yaml", "plain.yaml", "short.yaml"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto config = load_run_config((folder_ / "runs/run-plain-short/config.yaml").string(), {});
  EXPECT_EQ(config.model.residual, ResidualKind::kPlain);
  EXPECT_EQ(config.train.max_steps, 1);

  write("named.yaml", "run: {name: mine}\n");
  EXPECT_EQ(braid({"train", "run.yaml", "short.yaml", "named.yaml"}).status, 0);
  EXPECT_TRUE(std::filesystem::exists(folder_ / "runs/mine/config.yaml"));

  write("wrong.yaml", "model: {residul: plain}\n");
  testing::expect_error(braid({"train", "run.yaml", "wrong.yaml"}),
                        {"model.residul", "wrong.yaml:1", "residual"});
}

TEST_F(CommandLine, AProfileAccountsForTheStepsAndChangesNoBit) {
  const auto outcome = braid({"train", "run.yaml", "--profile"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  testing::expect_mentions(outcome.out, {"attention core", "experts", "MTP", "AdamW", "GEMM peak"});
  std::ifstream file(folder_ / "runs/run/profile.json");
  const auto profile = nlohmann::json::parse(file);
  EXPECT_EQ(profile.at("steps"), 5);  // of six; the first is left out
  double accounted = 0;
  for (const auto& part : profile.at("parts")) {
    accounted += part.at("share").get<double>();
  }
  EXPECT_NEAR(accounted, 1, 0.02);
  EXPECT_GT(profile.at("model_flops_utilisation").get<double>(), 0);

  ASSERT_EQ(braid({"train", "run.yaml", "--set", "run.name=plain"}).status, 0);
  auto plain = config("plain");
  testing::expect_same_run(plain, config("run"));
}

}  // namespace
}  // namespace braid
