#include "run/run_list.h"

#include "core/folder_lock.h"
#include "tests/loading/corpus.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

class RunList : public testing::CorpusTest {
 protected:
  /// A run as its folder looks after `step` steps; the last loss is `loss`.
  void make_run(const std::string& name, int step, double loss, const std::string& more = "") {
    write("runs/" + name + "/config.yaml",
          "run: {name: " + name + "}\ntrain: {max_steps: 4}\n" + more);
    std::string metrics;
    for (int i = 1; i <= step; ++i) {
      metrics += text("{\"step\":",
                      i,
                      ",\"tokens\":",
                      8 * i,
                      ",\"loss\":",
                      loss + step - i,
                      ",\"tokens_per_second\":",
                      100 * i,
                      "}\n");
      metrics += text("{\"step\":", i, ",\"split\":\"validation\",\"loss\":", loss + 0.5, "}\n");
    }
    write("runs/" + name + "/metrics.jsonl", metrics);
  }

  std::vector<std::string> names(const std::string& order) const {
    auto runs = list_runs({folder_ / "runs"});
    sort_runs(runs, order);
    std::vector<std::string> result;
    for (const auto& run : runs) {
      result.push_back(run.name);
    }
    return result;
  }
};

using Names = std::vector<std::string>;

TEST_F(RunList, TellsWhatARunsFolderHolds) {
  make_run("a", 2, 3.5);
  fs::create_directories(folder_ / "runs/no-run");
  const auto runs = list_runs({folder_ / "runs"});
  ASSERT_EQ(runs.size(), 1u);
  const auto& run = runs.front();
  EXPECT_EQ(run.name, "a");
  EXPECT_EQ(run.state, "stopped");
  EXPECT_EQ(run.step, 2);
  EXPECT_EQ(run.max_steps, 4);
  EXPECT_EQ(run.tokens, 16);
  EXPECT_EQ(run.loss, 3.5);
  EXPECT_EQ(run.validation_loss, 4.0);
  EXPECT_EQ(run.tokens_per_second, 150);
  EXPECT_EQ(run.checkpoint, "");
  EXPECT_EQ(run.bytes,
            static_cast<int64_t>(fs::file_size(folder_ / "runs/a/config.yaml") +
                                 fs::file_size(folder_ / "runs/a/metrics.jsonl")));
  EXPECT_EQ(list_runs({folder_ / "runs/a"}).size(), 1u);
}

TEST_F(RunList, TheStateFollowsFromStepsAndTheLock) {
  make_run("a", 2, 1);
  make_run("b", 4, 1);
  make_run("c", 1, 1);
  write("runs/d/config.yaml", "run: {name: \"d\n");
  write("runs/d/metrics.jsonl", "");
  const FolderLock lock(folder_ / "runs/c", "held");
  const auto runs = list_runs({folder_ / "runs"});
  ASSERT_EQ(runs.size(), 4u);
  EXPECT_EQ(runs[0].state, "stopped");
  EXPECT_EQ(runs[1].state, "finished");
  EXPECT_EQ(runs[2].state, "running");
  EXPECT_EQ(runs[3].state, "unreadable");
  EXPECT_NE(runs[3].problem.find("config.yaml"), std::string::npos);
}

TEST_F(RunList, ADamagedLineOfMetricsIsAProblemOfThatRunAlone) {
  make_run("a", 2, 1);
  make_run("b", 3, 1);
  write("runs/a/metrics.jsonl", "{\"step\":1,\"loss\":2}\nbroken\n");
  const auto runs = list_runs({folder_ / "runs"});
  ASSERT_EQ(runs.size(), 2u);
  EXPECT_EQ(runs[0].step, 1);
  EXPECT_NE(runs[0].problem.find("metrics.jsonl:2"), std::string::npos) << runs[0].problem;
  EXPECT_EQ(runs[1].problem, "");
}

TEST_F(RunList, LossesSortFromTheLowestAndNumbersFromTheLargest) {
  make_run("a", 2, 3);
  make_run("b", 4, 2);
  make_run("c", 3, 9);
  make_run("d", 0, 0);  // no numbers yet
  EXPECT_EQ(names("name"), (Names{"a", "b", "c", "d"}));
  EXPECT_EQ(names("loss"), (Names{"b", "a", "c", "d"}));
  EXPECT_EQ(names("validation"), (Names{"b", "a", "c", "d"}));
  EXPECT_EQ(names("step"), (Names{"b", "c", "a", "d"}));
  EXPECT_EQ(names("tokens"), (Names{"b", "c", "a", "d"}));
  EXPECT_EQ(names("speed"), (Names{"b", "c", "a", "d"}));
  for (const auto& order : run_orders()) {
    EXPECT_EQ(names(order).size(), 4u);
  }
}

TEST_F(RunList, OfSeveralValidationSetsOneIsCompared) {
  make_run("a", 0, 0);
  const std::string metrics =
      "{\"step\":1,\"split\":\"validation\",\"set\":\"x\",\"loss\":5}\n"
      "{\"step\":1,\"split\":\"validation\",\"set\":\"y\",\"loss\":2}\n";
  write("runs/a/metrics.jsonl", metrics);
  EXPECT_EQ(list_runs({folder_ / "runs"}).front().validation_loss, 5);
  write("runs/a/config.yaml", "run: {name: a}\ncheckpoint: {best_by: y}\n");
  EXPECT_EQ(list_runs({folder_ / "runs"}).front().validation_loss, 2);
}

TEST_F(RunList, ShowsTheKeysInWhichRunsDiffer) {
  make_run("a", 2, 3, "optimizer: {learning_rate: 0.1}\ndata: {train: [x]}\n");
  make_run("b", 2, 3, "optimizer: {learning_rate: 0.2}\ndata: {train: [x]}\nlogging: {n: 1}\n");
  write("runs/c/config.yaml", "]");
  write("runs/c/metrics.jsonl", "");
  const auto runs = list_runs({folder_ / "runs"});
  const auto differences = differences_of(runs);
  ASSERT_EQ(differences.size(), 2u);
  EXPECT_EQ(differences[0].key, "logging.n");
  EXPECT_EQ(differences[0].values, (Names{"", "1", ""}));
  EXPECT_EQ(differences[1].key, "optimizer.learning_rate");
  EXPECT_EQ(differences[1].values, (Names{"0.1", "0.2", ""}));
  testing::expect_mentions(runs_table(runs), {"optimizer.learning_rate", "0.2", "problem: "});
  const auto json = runs_json(runs);
  EXPECT_EQ(json.at("runs").size(), 3u);
  EXPECT_TRUE(json.at("runs")[2].at("loss").is_null());
  EXPECT_EQ(json.at("differences")[0].at("key"), "logging.n");
}

TEST_F(RunList, AFolderThatIsNotThereIsNamed) {
  testing::expect_mentions(testing::error_of([&] { list_runs({folder_ / "nowhere"}); }),
                           {"nowhere: no such folder"});
}

}  // namespace
}  // namespace braid
