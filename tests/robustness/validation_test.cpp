// The validation texts of a run, and readers beside a run that goes on.
#include <cmath>
#include <filesystem>

#include "formats/inspect.h"
#include "formats/open_model.h"
#include "tests/commands/cli_test.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using namespace testing;

class Validation : public CliTest {
 protected:
  double evaluated(const std::string& model, const std::string& data) const {
    const auto outcome = braid({"evaluate", model, "--data", data, "--seq-len", "32", "--json"});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return outcome.status == 0 ? nlohmann::json::parse(outcome.out).at("loss").get<double>()
                               : std::nan("");
  }
};

TEST_F(Validation, EvaluateOnTheFilesOfARunGivesItsValidationLosses) {
  write("code.jsonl", "{\"text\": \"no line break\"}\n{\"text\": \"one\\n%\\ntwo\\n\"}\n");
  train_run({"--set", "data.validation={prose: corpus.txt, code: code.jsonl}"});
  train_run({"--set", "run.name=fraction"});
  auto losses = [&](const std::string& run) {
    std::vector<double> found;
    for (const auto& record : metrics_but_timings(config(run))) {
      if (record.value("split", "") == "validation" && record.at("step") == 6) {
        found.push_back(record.at("loss"));
      }
    }
    return found;
  };
  const auto of_sets = losses("run"), of_fraction = losses("fraction");
  ASSERT_EQ(of_sets.size(), 2u);
  ASSERT_EQ(of_fraction.size(), 1u);
  EXPECT_NEAR(evaluated("runs/run", "runs/run/validation-prose.jsonl"), of_sets[0], 1e-6);
  EXPECT_NEAR(evaluated("runs/run", "runs/run/validation-code.jsonl"), of_sets[1], 1e-6);
  EXPECT_NEAR(evaluated("runs/fraction", "runs/fraction/validation.jsonl"), of_fraction[0], 1e-6);
  EXPECT_EQ(evaluated("runs/fraction", "runs/fraction/data/validation.tokens"),
            evaluated("runs/fraction", "runs/fraction/validation.jsonl"));
}

TEST_F(Validation, TheBestCheckpointIsAModel) {
  train_run({"--set", "checkpoint.keep_best=1"});
  const auto outcome = braid({"generate", "runs/run/checkpoints/best", "--prompt", "a"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
}

TEST_F(Validation, ReadersBesideARunTakeTheNextNewestCheckpoint) {
  Program training(folder_,
                   {"train",
                    "run.yaml",
                    "--set",
                    "checkpoint.every_steps=1",
                    "--set",
                    "train.validate_every_steps=0",
                    "--set",
                    "train.max_steps=20"},
                   {});
  training.wait_for("| saved");
  const auto run = config("run").run_dir();
  for (std::string newest; newest != "step-00000020";) {
    std::string source;
    ASSERT_NO_THROW(source = read_model(run).source);
    newest = fs::path(source).filename();
    ASSERT_NO_THROW(inspect(run, /*verify=*/false));
  }
  EXPECT_EQ(training.finish().status, 0);
}

}  // namespace
}  // namespace braid
