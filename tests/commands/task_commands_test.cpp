// Synthetic tasks on the command line.
#include "tests/commands/cli_test.h"

namespace braid {
namespace {

using TaskCommands = testing::CliTest;

constexpr const char* kRecall =
    "{task: recall, pairs: 2, distances: [8, 12], length: 32, documents: 10}";

TEST_F(TaskCommands, RenderShowsADocumentAndItsAnswers) {
  const auto shown = braid({"render", "--task", kRecall, "--row", "3"});
  ASSERT_EQ(shown.status, 0) << shown.err;
  testing::expect_mentions(shown.err,
                           {"task recall (2 pairs at distances 8, 12), row 3", "2 answers"});
  testing::expect_mentions(shown.out, {"[[", "]]"});
  const auto object =
      nlohmann::json::parse(braid({"render", "--task", kRecall, "--row", "3", "--json"}).out);
  const auto& document = object.at("documents")[0];
  EXPECT_EQ(document.at("ids").size(), 33u) << "with the begin token";
  EXPECT_EQ(document.at("answers").size(), 2u);
  EXPECT_TRUE(document.at("answers")[0].contains("group"));
  EXPECT_EQ(braid({"render", "--task", "copying"}).status, 0) << "a name alone has the defaults";
}

TEST_F(TaskCommands, EvaluateGivesAccuracyByGroup) {
  train_run();
  const std::vector<std::string> command = {
      "evaluate", "runs/run", "--task", kRecall, "--seq-len", "32"};
  auto as_json = command;
  as_json.push_back("--json");
  const auto outcome = braid(as_json);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto got = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(got.at("problems"), 20);
  EXPECT_TRUE(got.contains("accuracy"));
  ASSERT_EQ(got.at("accuracy_by_group").size(), 2u);
  EXPECT_EQ(got.at("accuracy_by_group")[0].at("group"), "distance_8");
  EXPECT_EQ(got.at("accuracy_by_group")[0].at("problems"), 10);
  testing::expect_mentions(braid(command).out, {"accuracy", "distance_12"});

  auto short_rows = command;
  short_rows.back() = "16";
  testing::expect_error(braid(short_rows), {"task recall", "32 tokens", "16"});
  testing::expect_error(braid({"evaluate", "runs/run", "--task", "{task: recall, pears: 2}"}),
                        {"--task", "pears", "pairs"});
  EXPECT_EQ(braid({"evaluate", "runs/run", "--task", "recall", "--data", "corpus.txt"}).status, 2);
}

TEST_F(TaskCommands, ARunOfATaskIsPlannedAndTrained) {
  const std::vector<std::string> task = {
      "--set", text("data.train=[", kRecall, "]"), "--set", "checkpoint.best_by=recall.accuracy"};
  std::vector<std::string> plan = {"plan", "run.yaml", "--flops-per-second", "1e9"};
  plan.insert(plan.end(), task.begin(), task.end());
  EXPECT_EQ(braid(plan).status, 0);
  train_run(task);
  std::ifstream metrics(config("run").run_dir() / "metrics.jsonl");
  const std::string lines((std::istreambuf_iterator<char>(metrics)), {});
  testing::expect_mentions(lines, {"\"accuracy\":", "\"accuracy.distance_8\":"});
}

TEST_F(TaskCommands, PlanGivesTheCostOfATokenByContext) {
  const auto outcome = braid(
      {"plan", "run.yaml", "--decode", "--json", "--set", "model.max_position_embeddings=4096"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto rows = nlohmann::json::parse(outcome.out).at("decode_per_token");
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[2].at("context"), 4096);
  EXPECT_GT(rows[2].at("flops"), rows[1].at("flops"));
}

}  // namespace
}  // namespace braid
