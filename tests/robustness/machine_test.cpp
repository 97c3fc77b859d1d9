// What the machine has: cores, memory and disk, known before a run starts.
#include "core/machine.h"

#include <sched.h>
#include <sys/resource.h>

#include "tests/commands/cli_test.h"

namespace braid {
namespace {

using testing::expect_error;
using testing::expect_mentions;

class TheMachine : public testing::CliTest {
 protected:
  testing::Outcome train(const std::vector<std::string>& settings,
                         const std::vector<std::string>& flags = {},
                         const testing::Program::Options& options = {}) const {
    std::vector<std::string> words = {"train", "run.yaml"};
    for (const auto& setting : settings) {
      words.insert(words.end(), {"--set", setting});
    }
    words.insert(words.end(), flags.begin(), flags.end());
    return braid(words, options);
  }
  bool made_the_run() const { return std::filesystem::exists(config("run").run_dir()); }

  const std::vector<std::string> kShort = {
      "train.threads=0", "train.max_steps=1", "checkpoint.every_steps=0"};
};

// This process, and so those that it starts, on the first of its cores.
class OnOneCore {
 public:
  OnOneCore() {
    sched_getaffinity(0, sizeof before_, &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<std::size_t>(usable_cores().numbers.front()), &one);
    sched_setaffinity(0, sizeof one, &one);
  }
  ~OnOneCore() { sched_setaffinity(0, sizeof before_, &before_); }
  OnOneCore(const OnOneCore&) = delete;
  OnOneCore& operator=(const OnOneCore&) = delete;

 private:
  cpu_set_t before_ = {};
};

TEST_F(TheMachine, GivesARunTheCoresOfItsAffinity) {
  const OnOneCore one;
  if (usable_cores().of_machine == 1) {
    GTEST_SKIP() << "the machine has one core";
  }
  const auto outcome = train(kShort, {}, {.threads = ""});
  expect_mentions(outcome.out, {"1 thread (affinity)"});
}

TEST_F(TheMachine, GivesARunTheThreadsOfTheEnvironmentUnlessItsKeySays) {
  expect_mentions(train(kShort).out, {"1 thread (OMP_NUM_THREADS)"});
  const auto many = train({"train.threads=3", "train.max_steps=1"}, {"--resume", "none"});
  expect_mentions(many.out, {"3 threads (train.threads)"});
}

TEST_F(TheMachine, WarnsOfMoreThreadsThanCores) {
  const auto many = std::to_string(usable_cores().numbers.size() + 1);
  const auto outcome = braid({"evaluate", "nowhere", "--data", "run.yaml"}, {.threads = many});
  expect_mentions(outcome.err, {"warning: " + many + " threads (OMP_NUM_THREADS) on", "nowhere"});
}

TEST_F(TheMachine, IsNotGivenARunWhoseWeightsItCannotHold) {
  const auto outcome = train({"model.vocab_size=16000000", "model.hidden_size=16384"});
  expect_error(outcome, {"memory:", "weights that are trained", "--ignore-room", "smaller model"});
  EXPECT_FALSE(made_the_run());
  expect_error(train({"model.vocab_size=16000000", "model.hidden_size=16000000"}),
               {"model.vocab_size", "AdamW"});
}

TEST_F(TheMachine, IsSaidToBeShortOfMemoryForLongActivations) {
  const auto outcome = train({"train.max_steps=1",
                              "train.micro_batch_size=10000000",
                              "train.global_batch_size=10000000",
                              "data.train=[nowhere]"});
  EXPECT_EQ(outcome.status, 1);
  expect_mentions(outcome.out, {"warning: memory:", "train.micro_batch_size", "available"});
}

#ifndef __SANITIZE_ADDRESS__  // it reserves more addresses than that
TEST_F(TheMachine, ThatRunsOutOfMemorySaysWhatNeedsLess) {
  rlimit before = {};
  getrlimit(RLIMIT_AS, &before);
  const rlimit few = {rlim_t{4} << 30, before.rlim_max};
  setrlimit(RLIMIT_AS, &few);
  const auto outcome =
      train({"model.vocab_size=16000000", "model.hidden_size=256"}, {"--ignore-room"});
  setrlimit(RLIMIT_AS, &before);
  EXPECT_EQ(outcome.status, 1);
  expect_mentions(outcome.err,
                  {"braid: out of memory (",
                   "bytes were asked for",
                   "train.micro_batch_size",
                   "train.recompute_sublayers"});
}
#endif

TEST_F(TheMachine, PlansAnyNumberOfStepsAndUpToAMillionRanks) {
  std::vector<std::string> words = {"plan", "run.yaml", "--flops-per-second", "1e12", "--ranks"};
  for (const std::string setting : {"train.max_steps=1000000000",
                                    "train.global_batch_size=1000000",
                                    "train.micro_batch_size=1"}) {
    words.insert(words.end() - 1, {"--set", setting});
  }
  words.emplace_back("1000000");
  const auto outcome = braid(words);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  expect_mentions(outcome.out,
                  {"1,000,000,000", "1,000,000", "step seconds", "--flops-per-second"});
  words.back() = "1000001";
  const auto too_many = braid(words);
  EXPECT_EQ(too_many.status, 2);
  expect_mentions(too_many.err, {"--ranks", "1000001", "1000000"});
}

}  // namespace
}  // namespace braid
