// Quantization-aware training that begins at a step of the run (schedule.qat_from_step).
#include "tests/support/compare.h"
#include "tests/train/tiny_run.h"

namespace braid {
namespace {

using namespace testing;

class QatFromStep : public TinyRun {
 protected:
  /// A run of six steps, validated after every second, in groups of FP4.
  RunConfig plain(const std::string& name) const {
    auto run = config(name);
    run.model.hidden_size = run.model.moe_intermediate_size = run.model.index_head_dim = 32;
    run.train.validate_every_steps = 2;
    run.train.recompute_sublayers = 2;
    run.loss.indexer_mode = IndexerMode::kSparse;
    return run;
  }

  RunConfig rounded_from(const std::string& name, int64_t step) const {
    auto run = plain(name);
    run.model.qat_experts = run.model.qat_indexer = QuantFormat::kFp4;
    run.schedule.qat_from_step = step;
    return run;
  }

  /// Records of training steps, or of validations, after steps `first` to `last`.
  static std::vector<nlohmann::json> records(const RunConfig& run,
                                             bool validations,
                                             int64_t first,
                                             int64_t last) {
    auto all = metrics_but_timings(run);
    std::erase_if(all, [&](const nlohmann::json& record) {
      const int64_t step = record.at("step");
      return record.contains("split") != validations || step < first || step > last;
    });
    return all;
  }

  static void expect_same_weights(const RunConfig& got, const RunConfig& want) {
    const auto tensors = load_checkpoint(newest_checkpoint(got)).tensors,
               wanted = load_checkpoint(newest_checkpoint(want)).tensors;
    ASSERT_EQ(tensors.size(), wanted.size());
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      EXPECT_EQ(tensors[i].name, wanted[i].name);
      expect_bitwise_equal(tensors[i].name, tensors[i].value, wanted[i].value);
    }
  }
};

TEST_F(QatFromStep, LeavesEarlierStepsAsTheyAreAndRoundsTheOthers) {
  const auto never = plain("never"), late = rounded_from("late", 3);
  train(never);
  train(late);
  EXPECT_EQ(records(late, false, 1, 3), records(never, false, 1, 3));
  EXPECT_EQ(records(late, true, 2, 2), records(never, true, 2, 2));
  const auto of_step = [](const RunConfig& run, bool validation, int64_t step) {
    return records(run, validation, step, step).at(0).at("loss");
  };
  EXPECT_NE(of_step(late, false, 4), of_step(never, false, 4));
  EXPECT_NE(of_step(late, true, 4), of_step(never, true, 4));
}

TEST_F(QatFromStep, AtTheEndRoundsWhatIsValidatedAlone) {
  const auto never = plain("never"), after = rounded_from("after", 6);
  train(never);
  train(after);
  EXPECT_EQ(records(after, false, 1, 6), records(never, false, 1, 6));
  EXPECT_EQ(records(after, true, 1, 5), records(never, true, 1, 5));
  EXPECT_NE(records(after, true, 6, 6), records(never, true, 6, 6));
  expect_same_weights(after, never);
}

TEST_F(QatFromStep, StoppingBeforeOrAfterItChangesNoBit) {
  const auto whole = rounded_from("whole", 4);
  auto stopped = rounded_from("stopped", 4);
  train(whole);
  for (int step = 0; step < 6; ++step) {
    train(stopped, 1);
  }
  expect_same_run(stopped, whole);
}

TEST_F(QatFromStep, IsWithinTheRunAndOfSomethingThatIsRounded) {
  const auto error = [](const RunConfig& run) -> std::string {
    try {
      run.validate();
    } catch (const ConfigError& problem) {
      return problem.what();
    }
    return "";
  };
  EXPECT_EQ(error(rounded_from("run", 6)), "");
  for (auto run : {rounded_from("run", 7), plain("run")}) {
    run.schedule.qat_from_step = std::max<int64_t>(run.schedule.qat_from_step, 1);
    EXPECT_NE(error(run).find("schedule.qat_from_step"), std::string::npos) << error(run);
  }
}

}  // namespace
}  // namespace braid
