// Texts that the model writes while it is trained.
#include "train/text_samples.h"

#include "tests/support/compare.h"
#include "tests/train/tiny_run.h"

namespace braid {
namespace {

using namespace testing;

class TextSamplesTest : public TinyRun {
 protected:
  RunConfig config_with_samples(const std::string& name) const {
    auto run = config(name);
    run.logging.samples = {.count = 2, .prompts = {"the ", ""}, .max_tokens = 5};
    return run;
  }

  static std::vector<nlohmann::json> samples_of(const RunConfig& run) {
    auto records = metrics_but_timings(run);
    std::erase_if(records,
                  [](const auto& record) { return record.value("split", "") != "sample"; });
    return records;
  }
};

TEST_F(TextSamplesTest, AreWrittenAtEachValidation) {
  const auto run = config_with_samples("run");
  train(run);
  const auto samples = samples_of(run);
  ASSERT_EQ(samples.size(), 3u * 4u);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    EXPECT_EQ(samples[i].at("step"), 2 * (i / 4 + 1));
    EXPECT_EQ(samples[i].at("prompt"), i % 4 < 2 ? "the " : "");
    EXPECT_EQ(samples[i].at("number"), i % 2);
    EXPECT_LE(samples[i].at("tokens"), 5);
  }
  EXPECT_NE(samples[0].at("text"), samples[1].at("text"));
}

TEST_F(TextSamplesTest, ChangeNoBitOfTheRun) {
  const auto with = config_with_samples("with"), without = config("without");
  train(with);
  train(without);
  auto records = metrics_but_timings(with);
  std::erase_if(records, [](const auto& record) { return record.value("split", "") == "sample"; });
  EXPECT_EQ(records, metrics_but_timings(without));
}

TEST_F(TextSamplesTest, StandOnceForEachStepHoweverOftenTheRunStops) {
  const auto whole = config_with_samples("whole");
  train(whole);
  for (int64_t stop = 0; stop < whole.train.max_steps; ++stop) {
    SCOPED_TRACE(text("stopped after step ", stop));
    const auto stopped = config_with_samples(text("stopped-", stop));
    train(stopped, stop);
    train(stopped);
    expect_same_run(stopped, whole);
  }
}

TEST_F(TextSamplesTest, APromptWithoutRoomIsAnErrorBeforeTheFirstStep) {
  auto run = config_with_samples("run");
  run.logging.samples.max_tokens = run.model.max_position_embeddings;
  expect_mentions(error_of([&] { train(run); }),
                  {"logging.samples.prompts[0]", "max_position_embeddings"});
}

}  // namespace
}  // namespace braid
