#include <chrono>
#include <csignal>
#include <sstream>
#include <thread>

#include <gtest/gtest.h>

#include "core/file.h"
#include "core/random.h"
#include "tests/commands/cli_test.h"

namespace braid::testing {
namespace {

namespace fs = std::filesystem;

class SweepTest : public CliTest {
 protected:
  /// Two arms of two seeds, on a model of which a run takes part of a second.
  SweepTest() { write_sweep(); }

  void write_sweep(const std::string& more = "", const std::string& of_b = "1e-2") const {
    write("sweep.yaml",
          "config: run.yaml\n"
          "arms:\n"
          "  a: {set: {optimizer.learning_rate: 1e-3}}\n"
          "  b: {set: {optimizer.learning_rate: " +
              of_b +
              "}}\n"
              "seeds: 2\n"
              "cores: 2\n"
              "memory: 8GiB\n" +
              more);
  }

  Outcome sweep(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"sweep", "sweep.yaml"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return braid(arguments);
  }

  std::string contents(const std::string& name) const { return read_file(folder_ / name); }

  /// runs.csv without the times.
  std::string results(const std::string& output) const {
    std::istringstream lines(contents(output + "/runs.csv"));
    std::string result;
    for (std::string line; std::getline(lines, line);) {
      std::istringstream fields(line);
      std::string field;
      for (int i = 0; std::getline(fields, field, ','); ++i) {
        result += i == 8 || i == 11 ? "" : field + ",";
      }
      result += "\n";
    }
    return result;
  }

  /// When each run last changed: runs that nobody touched compare equal.
  /// Until each of these runs has taken some steps.
  void wait_for_steps(const std::vector<std::string>& runs) const {
    for (const auto& run : runs) {
      const auto metrics = folder_ / "sweeps/sweep/runs" / run / "metrics.jsonl";
      for (int i = 0; i < 6000 && (!fs::exists(metrics) || read_file(metrics).size() < 300); ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      }
    }
  }

  std::map<std::string, fs::file_time_type> times() const {
    std::map<std::string, fs::file_time_type> result;
    for (const auto& run : fs::directory_iterator(folder_ / "sweeps/sweep/runs")) {
      result[run.path().filename()] = fs::last_write_time(run.path() / "metrics.jsonl");
    }
    return result;
  }
};

TEST_F(SweepTest, RunsEveryArmAndSeedAndComparesThem) {
  const auto outcome = sweep();
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  expect_mentions(outcome.out, {"4 of 4 runs, 2 of 2 arms done", "| a ", "| b ", "base"});
  for (const auto* file : {"comparison.md", "comparison.csv", "runs.csv", "comparison.json"}) {
    EXPECT_TRUE(fs::exists(folder_ / "sweeps/sweep" / file)) << file;
  }
  expect_mentions(results("sweeps/sweep"), {"a,a-seed1,1,finished,6,", "b,b-seed2,2,finished,6,"});

  // The same command does nothing again.
  const auto before = times();
  const auto table = contents("sweeps/sweep/comparison.md");
  const auto again = sweep();
  EXPECT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(times(), before);
  EXPECT_EQ(contents("sweeps/sweep/comparison.md"), table);
  EXPECT_EQ(again.out.find("finished after"), std::string::npos) << again.out;

  // Runs that exist are compared by the same rules.
  const auto compared = braid({"compare", "sweeps/sweep/runs", "--csv"});
  EXPECT_EQ(compared.status, 0) << compared.err;
  expect_mentions(compared.out, {"learning_rate=0.001,2,", "learning_rate=0.01,2,"});
}

TEST_F(SweepTest, KilledFiveTimesItEndsWithTheSameTable) {
  ASSERT_EQ(sweep({"--set", "output=whole"}).status, 0);
  for (uint64_t kill = 0; kill < 5; ++kill) {
    Program program(folder_, {"sweep", "sweep.yaml"}, {});
    const auto milliseconds = 50 + random_bits(random_key(kill, "kill"), 0) % 900;
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    program.send(SIGKILL);
    program.finish();
  }
  const auto outcome = sweep();
  ASSERT_EQ(outcome.status, 0) << outcome.err << outcome.out;
  EXPECT_EQ(results("sweeps/sweep"), results("whole"));
}

TEST_F(SweepTest, InterruptedItSavesItsRunsAndGoesOn) {
  write_sweep("set: {train.max_steps: 2000, checkpoint.every_steps: 0}\n");
  Program program(folder_, {"sweep", "sweep.yaml"}, {});
  wait_for_steps({"a-seed1", "b-seed1"});
  program.send(SIGINT);
  const auto outcome = program.finish();
  EXPECT_EQ(outcome.status, 130) << outcome.out << outcome.err;
  expect_mentions(outcome.out, {"stopping: 2 runs"});
  for (const auto* run : {"a-seed1", "b-seed1"}) {
    EXPECT_TRUE(fs::exists(folder_ / "sweeps/sweep/runs" / run / "checkpoints")) << run;
  }
  const auto plan = sweep({"--dry-run"});
  expect_mentions(plan.out, {"continues after step", "to be run"});
}

TEST_F(SweepTest, OnlyWhatChangedRunsAgain) {
  ASSERT_EQ(sweep().status, 0);
  const auto before = times();
  write_sweep("", "2e-2");
  const auto outcome = sweep();
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  expect_mentions(outcome.out, {"b-seed1 runs again: optimizer.learning_rate was 0.01, is 0.02"});
  const auto after = times();
  EXPECT_EQ(after.at("a-seed1"), before.at("a-seed1"));
  EXPECT_NE(after.at("b-seed1"), before.at("b-seed1"));
  EXPECT_TRUE(fs::exists(folder_ / "sweeps/sweep/earlier/b-seed1.1/metrics.jsonl"));

  // Another seed leaves what is there; another text nothing.
  EXPECT_EQ(sweep({"--set", "seeds=3"}).status, 0);
  EXPECT_EQ(times().at("b-seed1"), after.at("b-seed1"));
  write("corpus.txt", contents("corpus.txt") + "one more document\n%\n");
  expect_mentions(sweep({"--dry-run"}).out, {"corpus.txt holds something else than it did"});
}

TEST_F(SweepTest, RunsOnATaskReadNoText) {
  write_sweep("set: {data.train: [{task: arithmetic, modulus: 7, held_out: 0.2}]}\n");
  const auto outcome = sweep({"--set", "seeds=1"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  const auto before = times();
  EXPECT_EQ(sweep({"--set", "seeds=1"}).status, 0);
  EXPECT_EQ(times(), before);
}

TEST_F(SweepTest, AFailedRunIsInTheTableAndStopsNoOther) {
  write("blank.txt", "\n\n");
  write("sweep.yaml", contents("sweep.yaml") + "grid: {data.train: [[corpus.txt], [blank.txt]]}\n");
  const auto outcome = sweep();
  EXPECT_EQ(outcome.status, 1);
  expect_mentions(outcome.err, {"braid: 4 runs failed"});
  expect_mentions(outcome.out, {"a-train-value2-seed1 failed after", "blank.txt"});
  expect_mentions(contents("sweeps/sweep/comparison.md"),
                  {"a-train-value2-seed1 (a-train-value2) is not counted: failed", "blank.txt"});
  expect_mentions(results("sweeps/sweep"), {"a-train-value1,a-train-value1-seed1,1,finished,6,"});
}

TEST_F(SweepTest, ArmsAreTunedBeforeTheyAreCompared) {
  write_sweep("tune: {key: optimizer.muon.momentum, values: [0.5, 0.9]}\n");
  const auto outcome = sweep();
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto table = contents("sweeps/sweep/comparison.md");
  expect_mentions(
      table, {"optimizer.muon.momentum = 0.", "the best of 0.5 (", "over 1 seed", "at the edge"});
  // Two values for the first seed of each arm, and one of them for the second.
  int64_t runs = 0;
  for (const auto& run : fs::directory_iterator(folder_ / "sweeps/sweep/runs")) {
    runs += fs::exists(run.path() / "metrics.jsonl") ? 1 : 0;
  }
  EXPECT_EQ(runs, 6);
  expect_mentions(outcome.out, {"6 of 6 runs"});
}

TEST_F(SweepTest, NumbersAndCriteriaAreInTheTable) {
  write_sweep(
      "numbers: {rate: {metric: learning_rate, take: largest}, none: {metric: lerning_rate}}\n"
      "criteria:\n"
      "  - {arm: b, number: rate, over: a, above: 9, below: 11}\n"
      "  - {arm: a, number: rate, above: 1}\n"
      "  - {arm: a, number: none, above: 1}\n");
  const auto outcome = sweep();
  ASSERT_EQ(outcome.status, 0) << outcome.err;  // also where a criterion does not hold
  const std::vector<std::string> expected = {
      "none: no run has a finite lerning_rate; did you mean 'learning_rate'?",
      "- rate of b over a: 10, between 9 and 11: holds (in 2 of 2 seeds)\n",
      ", above 1: does not hold (in 0 of 2 seeds)\n",
      "- none of a, above 1: not known: no run of a has a none\n",
      "1 of 3 criteria hold, 1 is not known.\n"};
  expect_mentions(outcome.out, expected);
  expect_mentions(contents("sweeps/sweep/comparison.md"), expected);
  expect_mentions(contents("sweeps/sweep/comparison.html"), {"1 of 3 criteria hold"});

  // The sweep's folder tells what its file said, and which runs are which arm.
  const auto compared = braid({"compare", "sweeps/sweep"});
  EXPECT_EQ(compared.status, 0) << compared.err;
  EXPECT_EQ(compared.out, contents("sweeps/sweep/comparison.md"));
  const auto csv = braid({"compare", "sweeps/sweep", "--csv", "--number", "least=loss:smallest"});
  expect_mentions(csv.out, {",note,rate,rate_sd,none,none_sd,least,least_sd\n"});
  expect_error(braid({"compare", "sweeps/sweep", "--number", "rate=loss"}), {"'rate'"});
  expect_error(braid({"compare", "sweeps/sweep", "--number", "x=loss:mean"}), {"last_tenth"});

  const auto plotted =
      braid({"compare", "sweeps/sweep", "--plot", "loss", "--axis", "steps", "-o", "loss.svg"});
  EXPECT_EQ(plotted.status, 0) << plotted.err;
  EXPECT_EQ(plotted.out, "");
  expect_mentions(contents("loss.svg"), {"sweep: Loss, training", "training steps", ">b</text>"});
  const auto run = "sweeps/sweep/runs/a-seed1";
  EXPECT_EQ(braid({"report", run, "--plot", "validation/loss", "-o", "run.svg"}).status, 0);
  expect_mentions(contents("run.svg"), {"a-seed1: Loss, validation"});
  expect_error(braid({"report", run, "--plot", "loss"}), {"-o FILE.svg"});
  expect_error(braid({"compare", "sweeps/sweep", "--plot", "los", "-o", "x.svg"}), {"'loss'"});

  // Criteria of a changed file need no run again.
  write_sweep("criteria: [{arm: b, number: tokens, below: 1}]\n");
  const auto before = times();
  expect_mentions(sweep().out, {"0 of 1 criterion holds."});
  EXPECT_EQ(times(), before);
}

TEST_F(SweepTest, ATableIsThereBeforeTheSweepHasEnded) {
  write("sweep.yaml",
        "config: run.yaml\nseeds: 1\nat_once: 1\nmemory: 8GiB\n"
        "arms: {a: , b: {set: {train.max_steps: 2000, checkpoint.every_steps: 0}}}\n"
        "criteria: [{arm: a, number: loss, above: 0}, {arm: b, number: loss, above: 0}]\n");
  Program program(folder_, {"sweep", "sweep.yaml"}, {});
  wait_for_steps({"b-seed1"});
  program.send(SIGINT);
  EXPECT_EQ(program.finish().status, 130);
  ASSERT_TRUE(fs::exists(folder_ / "sweeps/sweep/comparison.json"));
  expect_mentions(contents("sweeps/sweep/comparison.md"),
                  {"the sweep goes on: 1 of 2 runs",
                   "- loss of a:",
                   "above 0: holds\n",
                   "- loss of b, above 0: not known: no run of b counts\n"});
  for (const auto* file : {"comparison.html", "comparison.csv", "runs.csv", "comparison.yaml"}) {
    EXPECT_TRUE(fs::exists(folder_ / "sweeps/sweep" / file)) << file;
  }
  // Runs that go on are looked at as they are.
  expect_mentions(braid({"compare", "sweeps/sweep"}).out, {"b-seed1 (b) is not counted: stopped"});
}

TEST_F(SweepTest, ADryRunMakesNothing) {
  const auto outcome = sweep({"--dry-run"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  expect_mentions(outcome.out, {"a-seed1", "b-seed2", "to be run", "2 runs at once on 2 cores"});
  EXPECT_FALSE(fs::exists(folder_ / "sweeps"));
}

TEST_F(SweepTest, WrongUseIsAnErrorThatSaysSo) {
  expect_error(braid({"sweep", "nothing.yaml"}), {"nothing.yaml"});
  expect_error(sweep({"--set", "sedes=3"}), {"sedes", "--set", "did you mean 'seeds'"});
  write("mine/notes.txt", "mine");
  expect_error(sweep({"--set", "output=mine"}), {"mine", "notes.txt", "choose another `output`"});
  expect_error(braid({"compare", "nothing"}), {"nothing", "no such folder"});
}

}  // namespace
}  // namespace braid::testing
