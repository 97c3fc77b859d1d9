#pragma once
#include <string>
#include <vector>

#include "tests/commands/program.h"
#include "tests/train/tiny_run.h"

namespace braid::testing {

/// A folder with run.yaml, the tiny run of tests/train, in which commands are run.
class CliTest : public TinyRun {
 protected:
  CliTest() { write("run.yaml", dump_config(config("run"))); }

  Outcome braid(const std::vector<std::string>& arguments,
                const Program::Options& options = {}) const {
    return Program(folder_, arguments, options).finish();
  }

  /// The command of a run of one step, from its beginning, on all of this text.
  static std::vector<std::string> one_step_on(const std::string& train,
                                              const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {"train",
                                          "run.yaml",
                                          "--resume",
                                          "none",
                                          "--stop-at-step",
                                          "1",
                                          "--set",
                                          "data.train=[" + train + "]",
                                          "--set",
                                          "data.validation_fraction=0"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  /// Trains to the end.
  void train_run(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"train", "run.yaml"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const auto outcome = braid(arguments);
    ASSERT_EQ(outcome.status, 0) << outcome.err;
  }
};

/// Status 1, nothing but one line on standard error, and in it these parts.
inline void expect_error(const Outcome& outcome, const std::vector<std::string>& parts) {
  EXPECT_EQ(outcome.status, 1) << outcome.out;
  EXPECT_TRUE(outcome.err.starts_with("braid: ")) << outcome.err;
  EXPECT_EQ(outcome.err.find('\n'), outcome.err.size() - 1) << outcome.err;
  expect_mentions(outcome.err, parts);
}

}  // namespace braid::testing
