// Signals and sudden death: the same command continues to the same numbers.
#include <chrono>
#include <csignal>
#include <thread>

#include "core/random.h"
#include "tests/commands/cli_test.h"

namespace braid {
namespace {

class Interruption : public testing::CliTest {
 protected:
  std::vector<std::string> command(const std::string& name) const {
    return {"train",
            "run.yaml",
            "--set",
            "run.name=" + name,
            "--set",
            "train.max_steps=40",
            "--set",
            "checkpoint.every_steps=3",
            "--set",
            "logging.every_steps=1"};
  }
};

TEST_F(Interruption, SignalsSaveAndTheSameCommandContinues) {
  ASSERT_EQ(braid(command("whole")).status, 0);
  for (const auto& [signal, status] :
       {std::pair{SIGINT, 130}, std::pair{SIGTERM, 143}, std::pair{SIGUSR1, 138}}) {
    testing::Program program(folder_, command("run"), {});
    program.wait_for("| loss", 2);
    program.send(signal);
    const auto outcome = program.finish();
    EXPECT_EQ(outcome.status, status) << outcome.err;
    EXPECT_EQ(outcome.err,
              signal == SIGINT
                  ? "braid: stopping after this step; again = at once, without saving\n"
                  : "");
    testing::expect_mentions(outcome.out, {"| saved ", "the same command continues"});
    const auto saved = load_checkpoint(testing::newest_checkpoint(config("run"))).state.at("step");
    EXPECT_EQ(testing::metrics_but_timings(config("run")).back().at("step"),
              std::get<int64_t>(saved));
  }
  ASSERT_EQ(braid(command("run")).status, 0);
  testing::expect_same_run(config("run"), config("whole"));
}

TEST_F(Interruption, KillingAtAnyMomentLosesNothing) {
  ASSERT_EQ(braid(command("whole")).status, 0);
  for (uint64_t kill = 0; kill < 6; ++kill) {
    // Every second time while the run starts, else in a step or a save.
    const uint64_t key = random_key(kill, "kill");
    testing::Program program(folder_, command("run"), {});
    program.wait_for(kill % 2 == 0 ? "run " : "| loss");
    std::this_thread::sleep_for(std::chrono::milliseconds(random_bits(key, 0) % 40));
    program.send(SIGKILL);
    EXPECT_EQ(program.finish().status, 128 + SIGKILL);
  }
  ASSERT_EQ(braid(command("run")).status, 0);
  testing::expect_same_run(config("run"), config("whole"));
}

TEST_F(Interruption, ASecondProcessIsRefusedAndTheFirstGoesOn) {
  testing::Program first(folder_, command("run"), {});
  first.wait_for("| loss");
  // In a folder of its own, so that their outputs do not meet.
  auto arguments = command("run");
  arguments[1] = write("elsewhere/run.yaml", dump_config(config("run"))).string();
  testing::Program second(folder_ / "elsewhere", arguments, {});
  testing::expect_error(second.finish(), {"another process is training"});
  EXPECT_EQ(first.finish().status, 0);
}

}  // namespace
}  // namespace braid
