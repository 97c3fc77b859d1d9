#include "report/curves.h"

#include <cmath>
#include <fstream>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/folder_lock.h"
#include "tests/core/fresh_folder.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

class Curves : public ::testing::Test {
 protected:
  ~Curves() override { fs::remove_all(folder_); }

  void write(const std::string& name, const std::string& contents) const {
    std::ofstream(folder_ / name) << contents;
  }

  void write_run(const std::string& metrics, const std::string& more = "") const {
    write("config.yaml", "run: {name: a, seed: 7}\ntrain: {max_steps: 4}\n" + more);
    write("metrics.jsonl", metrics);
  }

  fs::path folder_ = testing::fresh_folder();
};

constexpr const char* kTwoSteps =
    R"({"step":1,"tokens":100,"loss":5.5,"step_seconds":0.5}
{"step":2,"tokens":200,"loss":null,"step_seconds":0.25,"skipped":"loss"}
{"step":2,"split":"validation","set":"prose","loss":5.0}
{"step":2,"split":"validation","set":"code","loss":4.0}
{"step":2,"split":"attention","max_logit":3}
{"step":2,"split":"sample","prompt":"Once","text":" upon"}
)";

TEST_F(Curves, HaveEveryNumberOfARun) {
  write_run(kTwoSteps);
  const auto run = read_run(folder_);
  EXPECT_EQ(run.name, "a");
  EXPECT_EQ(run.seed, 7);
  EXPECT_EQ(run.state, "stopped");
  EXPECT_EQ(run.problem, "");
  EXPECT_EQ(run.steps, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(run.tokens, (std::vector<double>{100, 200}));
  EXPECT_EQ(run.seconds, (std::vector<double>{0.5, 0.75}));
  const auto* loss = run.training_series("loss");
  ASSERT_NE(loss, nullptr);
  EXPECT_EQ(loss->values[0], 5.5);
  EXPECT_TRUE(std::isnan(loss->values[1]));
  ASSERT_NE(run.validation_series("code", "loss"), nullptr);
  EXPECT_EQ(run.validation_series("code", "loss")->values, std::vector<double>{4});
  EXPECT_EQ(run.training_series("attention.max_logit")->steps, std::vector<int64_t>{2});
  ASSERT_EQ(run.samples.size(), 1u);
  EXPECT_EQ(run.samples[0].text, " upon");
  ASSERT_EQ(run.events.size(), 1u);
  EXPECT_EQ(run.events[0].key, "skipped");
  EXPECT_EQ(run.training_series("tokns"), nullptr);
  EXPECT_EQ(run.validation_series("cde", "loss"), nullptr);
}

TEST_F(Curves, ThePositionOfAStepIsThatOfTheLastRecordBefore) {
  write_run(kTwoSteps);
  const auto run = read_run(folder_);
  EXPECT_EQ(run.position(CurveAxis::kSteps, 3), 3);
  EXPECT_EQ(run.position(CurveAxis::kTokens, 0), 0);
  EXPECT_EQ(run.position(CurveAxis::kTokens, 1), 100);
  EXPECT_EQ(run.position(CurveAxis::kTokens, 9), 200);
  EXPECT_EQ(run.position(CurveAxis::kSeconds, 2), 0.75);
}

// With batches twice as large from step 3 on, each step computes more.
TEST_F(Curves, OperationsFollowTheStagesOfTheRun) {
  const auto line = [](int step) { return text("{\"step\":", step, ",\"tokens\":", step, "}\n"); };
  write_run(line(1) + line(2) + line(3) + line(4),
            "schedule: {global_batch_size: [{until_step: 2, value: 8}]}\n");
  const auto run = read_run(folder_);
  ASSERT_EQ(run.problem, "");
  ASSERT_EQ(run.flops.size(), 4u);
  EXPECT_GT(run.flops[0], 0);
  EXPECT_DOUBLE_EQ(run.flops[1], 2 * run.flops[0]);
  EXPECT_GT(run.flops[3] - run.flops[2], 1.3 * run.flops[0]);
  EXPECT_NEAR(run.flops[3] - run.flops[2], run.flops[2] - run.flops[1], 1e-6 * run.flops[0]);
}

TEST_F(Curves, AHalfWrittenLineOfARunningRunIsLeftForLater) {
  write_run(std::string(kTwoSteps) + R"({"step":3,"lo)");
  {
    const FolderLock lock(folder_, "held");
    const auto run = read_run(folder_);
    EXPECT_EQ(run.state, "running");
    EXPECT_EQ(run.last_step(), 2);
    EXPECT_EQ(run.problem, "");
  }
  const auto run = read_run(folder_);
  EXPECT_EQ(run.state, "stopped");
  EXPECT_NE(run.problem.find("cut off"), std::string::npos) << run.problem;
}

TEST_F(Curves, AConfigurationOfAnotherVersionLeavesItsNumbers) {
  write_run(kTwoSteps, "future: {key: 1}\n");
  const auto run = read_run(folder_);
  EXPECT_EQ(run.last_step(), 2);
  EXPECT_TRUE(std::isnan(run.flops.at(1)));
  EXPECT_NE(run.problem.find("future"), std::string::npos) << run.problem;
  write("config.yaml", "run: {name: \"a\n");
  EXPECT_EQ(read_run(folder_).state, "unreadable");
}

TEST_F(Curves, ARunThatStoppedImprovingIsFinished) {
  std::string metrics;
  for (int step = 1; step <= 3; ++step) {
    metrics += text("{\"step\":", step, ",\"tokens\":", step, "}\n");
    metrics += text("{\"step\":", step, ",\"split\":\"validation\",\"loss\":", 3 + step, "}\n");
  }
  write_run(metrics);
  EXPECT_EQ(read_run(folder_).state, "stopped");
  write("config.yaml",
        "run: {name: a}\ntrain: {max_steps: 9, stop_when_worse_for: 2, validate_every_steps: 1}\n");
  EXPECT_EQ(read_run(folder_).state, "finished");
}

TEST_F(Curves, OfAFolderThatIsNoRunAreAnError) {
  EXPECT_THROW(read_run(folder_), Error);
  EXPECT_THROW(read_run(folder_ / "nothing"), Error);
}

}  // namespace
}  // namespace braid
