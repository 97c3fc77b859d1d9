// The page of a run, as its users make it.
#include <csignal>
#include <fstream>

#include "core/file.h"
#include "tests/commands/cli_test.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

class Report : public testing::CliTest {
 protected:
  std::string page(const std::string& name) const { return read_file(folder_ / name); }
};

TEST_F(Report, IsAPageInTheRunsFolder) {
  train_run({"--set", "logging.samples.count=1", "--set", "logging.samples.max_tokens=3"});
  const auto outcome = braid({"report", "runs/run"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "runs/run/report.html: run, finished, step 6 of 6\n");
  const auto html = page("runs/run/report.html");
  testing::expect_mentions(
      html, {"<h1>run</h1>", "<h2>Loss</h2>", "<h2>Samples of text</h2>", "finished, step 6 of 6"});
  ASSERT_EQ(braid({"report", "runs/run", "-o", "other.html"}).status, 0);
  EXPECT_EQ(page("other.html"), html);
  // The run is as it was: it can be reported, inspected and continued.
  EXPECT_EQ(braid({"inspect", "runs/run", "--verify"}).status, 0);
}

TEST_F(Report, RefusesWhatIsNoRunAndWhatItMustNotReplace) {
  fs::create_directories(folder_ / "empty");
  testing::expect_error(braid({"report", "nowhere"}), {"nowhere: no such folder"});
  testing::expect_error(braid({"report", "empty"}), {"empty: is no run"});
  train_run();
  for (const char* file : {"metrics.jsonl", "config.yaml", "log.txt", "data/page.html"}) {
    const auto path = fs::path("runs/run") / file;
    const auto before = fs::exists(folder_ / path) ? page(path) : "";
    testing::expect_error(braid({"report", "runs/run", "-o", path}), {path});
    EXPECT_EQ(fs::exists(folder_ / path) ? page(path) : "", before);
  }
  write("notes.html", "<p>mine</p>");
  testing::expect_error(braid({"report", "runs/run", "-o", "notes.html"}),
                        {"notes.html: exists and is no page of Braid's"});
  testing::expect_error(braid({"report", "runs/run", "-o", "none/page.html"}), {"none/page.html"});
  EXPECT_EQ(braid({"report", "runs/run", "--every", "0"}).status, 2);
}

TEST_F(Report, ShowsARunWhoseMetricsAreDamagedUpToThere) {
  train_run();
  std::ofstream(folder_ / "runs/run/metrics.jsonl", std::ios::app) << "{\"step\": oh\n";
  const auto outcome = braid({"report", "runs/run"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  testing::expect_mentions(page("runs/run/report.html"), {"metrics.jsonl:", "<h2>Loss</h2>"});
}

TEST_F(Report, FollowsARunToItsEnd) {
  testing::Program training(folder_, {"train", "run.yaml", "--set", "train.max_steps=400"}, {});
  training.wait_for("| loss");
  testing::Program following(folder_, {"report", "runs/run", "--follow", "--every", "1"}, {});
  following.wait_for("run, running");
  testing::expect_mentions(page("runs/run/report.html"), {"http-equiv=\"refresh\""});
  training.send(SIGINT);
  EXPECT_EQ(training.finish().status, 130);
  const auto outcome = following.finish();
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  testing::expect_mentions(outcome.out, {"run, stopped"});
  const auto html = page("runs/run/report.html");
  EXPECT_EQ(html.find("http-equiv"), std::string::npos);
  testing::expect_mentions(html, {"stopped, step "});
}

TEST_F(Report, AFollowerEndsWithItsSignal) {
  testing::Program training(folder_, {"train", "run.yaml", "--set", "train.max_steps=100000"}, {});
  training.wait_for("| loss");
  testing::Program following(folder_, {"report", "runs/run", "--follow", "--every", "3600"}, {});
  following.wait_for("run, running");
  following.send(SIGINT);
  EXPECT_EQ(following.finish().status, 130);
  training.send(SIGKILL);
  training.finish();
}

}  // namespace
}  // namespace braid
