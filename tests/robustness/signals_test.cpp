// Signals at any moment, closed descriptors and outputs that cannot be written.
#include <chrono>
#include <csignal>
#include <functional>
#include <thread>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/history.h"
#include "core/file.h"
#include "tests/commands/cli_test.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using testing::expect_mentions;
using testing::Program;
using Strings = std::vector<std::string>;

class Signals : public testing::CliTest {
 protected:
  Strings train_command(const Strings& settings, const std::string& name = "run") const {
    Strings words = {"train", "run.yaml", "--set", "run.name=" + name};
    for (const auto& setting : settings) {
      words.insert(words.end(), {"--set", setting});
    }
    return words;
  }

  /// Text of this many bytes in documents of a kilobyte.
  void write_text(const std::string& name, std::size_t bytes) const {
    std::string contents;
    while (contents.size() < bytes) {
      contents.append(1000, static_cast<char>('a' + contents.size() % 26)).append("\n%\n");
    }
    write(name, contents);
  }

  fs::path run() const { return folder_ / "runs/run"; }
};

void wait_until(const std::function<bool()>& there) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!there()) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "waited a minute";
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

TEST_F(Signals, WhilePreparingEndTheRunWithTheirStatusAndLeaveNothingHalf) {
  write_text("large.txt", 60'000'000);
  const auto command = train_command({"data.train=[large.txt]", "train.max_steps=1"});
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1, SIGHUP}) {
    Program program(folder_, command, {});
    wait_until([&] { return fs::exists(run() / "data/train.tokens.braid.tmp"); });
    program.send(signal);
    const auto outcome = program.finish();
    EXPECT_EQ(outcome.status, 128 + signal);
    expect_mentions(outcome.err, {"stopped by SIG"});
    EXPECT_TRUE(fs::is_empty(run() / "data"));
  }
}

TEST_F(Signals, WhileValidatingSaveTheStepAndTheValidationIsMadeUpFor) {
  write_text("more.txt", 20'000);
  const Strings settings = {"data.validation_fraction=0",
                            "data.validation=[more.txt]",
                            "train.validate_every_steps=1",
                            "train.max_steps=2",
                            "logging.every_steps=1"};
  ASSERT_EQ(braid(train_command(settings, "whole")).status, 0);
  for (const std::string step : {"step 1/2", "step 2/2"}) {
    Program program(folder_, train_command(settings), {});
    program.wait_for(step);
    program.send(SIGTERM);
    const auto outcome = program.finish();
    EXPECT_EQ(outcome.status, 143) << outcome.err;
    expect_mentions(outcome.out, {"| saved ", "the same command continues"});
    EXPECT_FALSE(testing::metrics_but_timings(config("run")).back().contains("split"));
  }
  const auto last = braid(train_command(settings));
  EXPECT_EQ(last.status, 0) << last.err;
  EXPECT_EQ(testing::metrics_but_timings(config("run")),
            testing::metrics_but_timings(config("whole")));
}

TEST_F(Signals, HangUpAndPipeSaveAndStop) {
  for (const int signal : {SIGHUP, SIGPIPE}) {
    Program program(folder_, train_command({"train.max_steps=4000"}), {});
    program.wait_for("| loss");
    program.send(signal);
    const auto outcome = program.finish();
    EXPECT_EQ(outcome.status, 128 + signal) << outcome.err;
    expect_mentions(outcome.out, {"| saved ", "the same command continues"});
  }
}

TEST_F(Signals, NohupIsRespected) {
  Program program(folder_, train_command({}), {.under_nohup = true});
  program.wait_for("run ");
  program.send(SIGHUP);
  EXPECT_EQ(program.finish().status, 0);
}

TEST_F(Signals, CtrlCIsAnsweredAtOnceAndAgainEndsAtOnce) {
  // One step takes minutes.
  const auto command = train_command({"train.global_batch_size=200000", "data.seq_len=64"});
  Program program(folder_, command, {});
  program.wait_for("indexers: not trained");  // the last line before the first step
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  program.send(SIGINT);
  program.send(SIGINT);  // the same request
  wait_until([&] {
    return read_file(folder_ / "standard-error") ==
           "braid: stopping after this step; again = at once, without saving\n";
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(550));
  program.send(SIGINT);
  EXPECT_EQ(program.finish().status, 130);
  EXPECT_FALSE(newest_complete_checkpoint(run() / "checkpoints"));
}

TEST_F(Signals, TheSameOneTwiceInARowIsOneRequest) {
  for (const int signal : {SIGTERM, SIGHUP}) {
    const auto name = "stopped-by-" + std::to_string(signal);
    Program program(folder_, train_command({"train.max_steps=4000"}, name), {});
    program.wait_for("| loss");
    program.send(signal);
    program.send(signal);
    const auto outcome = program.finish();
    EXPECT_EQ(outcome.status, 128 + signal) << outcome.err;
    expect_mentions(outcome.out, {"| saved "});
  }
}

TEST_F(Signals, SynthesizeLeavesNothingHalf) {
  write("large.yaml",  // 600 MB
        "base: run.yaml\n"
        "model: {hidden_size: 512, moe_intermediate_size: 1024, n_routed_experts: 256}\n");
  Program program(folder_, {"synthesize", "out", "--model", "large.yaml"}, {});
  wait_until([&] { return fs::exists(folder_ / "out.partial/config.json"); });
  program.send(SIGTERM);
  EXPECT_EQ(program.finish().status, 143);
  EXPECT_FALSE(fs::exists(folder_ / "out"));
  EXPECT_FALSE(fs::exists(folder_ / "out.partial"));
}

TEST_F(Signals, ClosedDescriptorsNeverBecomeFiles) {
  for (const std::vector<int>& closed : {std::vector{1}, {0}, {2}, {0, 1, 2}}) {
    const auto outcome = braid(train_command({"train.max_steps=2"}), {.closed = closed});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(read_file(run() / ".lock").find("step"), std::string::npos);
    expect_mentions(read_file(run() / "log.txt"), {"step 2/2"});
    EXPECT_EQ(testing::metrics_but_timings(config("run")).back().at("step"), 2);
    fs::remove_all(run());
  }
}

TEST_F(Signals, OutputThatCannotBeWrittenEndsNoTraining) {
  const auto command = train_command({"train.max_steps=2"});
  EXPECT_EQ(braid(command, {.output = "/dev/full"}).status, 0);
  expect_mentions(read_file(run() / "log.txt"), {"step 2/2", "| saved "});
  fs::remove_all(run());

  // A reader that goes away.
  ASSERT_EQ(::mkfifo((folder_ / "fifo").c_str(), 0600), 0);
  const int reader = ::open((folder_ / "fifo").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  Program program(folder_, command, {.output = (folder_ / "fifo").string()});
  ::close(reader);
  const auto outcome = program.finish();
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  expect_mentions(read_file(run() / "log.txt"), {"step 2/2", "| saved "});
}

TEST_F(Signals, OtherCommandsSayThatTheirOutputCannotBeWritten) {
  train_run({"--set", "train.max_steps=1"});
  write("text", "a few words");
  const std::vector<Strings> commands = {
      {"--help"},
      {"train", "--help-config"},
      {"train", "run.yaml", "--dry-run"},
      {"inspect", "runs/run"},
      {"inspect", "runs/run", "--json"},
      {"plan", "run.yaml"},
      {"plan", "run.yaml", "--json"},
      {"generate", "runs/run", "--prompt", "a", "--max-tokens", "2"},
      {"evaluate", "runs/run", "--data", "text", "--seq-len", "8"},
      {"convert", "runs/run", "converted", "--to", "release"}};
  for (const auto& command : commands) {
    for (const bool closed : {false, true}) {
      if (closed && command.front() != "inspect") {
        continue;
      }
      fs::remove_all(folder_ / "converted");
      const auto outcome = braid(command,
                                 {.output = closed ? "" : "/dev/full",
                                  .closed = closed ? std::vector{1} : std::vector<int>{}});
      EXPECT_EQ(outcome.status, 1) << command.front();
      expect_mentions(outcome.err,
                      {"braid: cannot write to standard output",
                       closed ? "Bad file descriptor" : "No space left"});
    }
  }
}

}  // namespace
}  // namespace braid
