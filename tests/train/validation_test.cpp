// What a run does with its validations: the best checkpoints stay, and a run that gets no better
// ends.
#include <algorithm>
#include <filesystem>
#include <set>

#include "checkpoint/history.h"
#include "formats/open_model.h"
#include "inference/evaluate.h"
#include "tests/train/tiny_run.h"
#include "train/best_validations.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using namespace testing;
using ValidationTest = TinyRun;

std::vector<nlohmann::json> validations_of(const RunConfig& config) {
  std::vector<nlohmann::json> validations;
  for (const auto& record : metrics_but_timings(config)) {
    if (record.value("split", "") == "validation") {
      validations.push_back(record);
    }
  }
  return validations;
}

/// The steps of the validations with the lowest losses, best first.
std::vector<int64_t> best_steps(const RunConfig& config) {
  auto validations = validations_of(config);
  std::ranges::stable_sort(
      validations, {}, [](const auto& record) { return record.at("loss").template get<double>(); });
  std::vector<int64_t> steps;
  for (const auto& record : validations) {
    steps.push_back(record.at("step"));
  }
  return steps;
}

std::vector<int64_t> checkpoint_steps(const RunConfig& config) {
  std::vector<int64_t> steps;
  for (const auto& folder : complete_checkpoints(config.run_dir() / "checkpoints")) {
    steps.push_back(*checkpoint_step(folder));
  }
  std::ranges::sort(steps);
  return steps;
}

TEST(BestValidations, KeepTheLowestLossesAndCountTheOthers) {
  BestValidations validations;
  EXPECT_TRUE(validations.add(1, 3.0, 2));
  EXPECT_TRUE(validations.add(2, 4.0, 2));
  EXPECT_EQ(validations.worse_for, 1);
  EXPECT_FALSE(validations.add(3, 4.0, 2));  // of equal ones the earlier
  EXPECT_EQ(validations.worse_for, 2);
  EXPECT_TRUE(validations.add(4, 2.0, 2));
  EXPECT_EQ(validations.worse_for, 0);
  EXPECT_EQ(validations.steps(), (std::vector<int64_t>{4, 1}));
  EXPECT_FALSE(validations.add(5, 1.0, 0));  // none are kept, but the best is known
  EXPECT_EQ(validations.steps(), std::vector<int64_t>{5});
}

/// A run that learns and unlearns, as its rate goes on rising: its best validation is not its last.
RunConfig restless(RunConfig run) {
  run.train.max_steps = 10;
  run.train.validate_every_steps = 1;
  run.optimizer.learning_rate = 3;
  run.schedule.warmup_steps = 10;
  run.checkpoint = {.every_steps = 0, .keep_last = 1, .keep_best = 1};
  return run;
}

TEST_F(ValidationTest, TheBestCheckpointStaysBesideTheNewest) {
  const auto run = restless(config("run"));
  train(run);
  const auto best = best_steps(run).front();
  ASSERT_LT(best, run.train.max_steps);
  EXPECT_EQ(checkpoint_steps(run), (std::vector<int64_t>{best, run.train.max_steps}));
  const auto link = run.run_dir() / "checkpoints/best";
  EXPECT_EQ(fs::read_symlink(link), checkpoint_folder_name(best));
  EXPECT_EQ(std::get<int64_t>(load_checkpoint(link).state.at("step")), best);
}

TEST_F(ValidationTest, SeveralBestOnesStay) {
  auto run = restless(config("run"));
  run.checkpoint.keep_best = 3;
  train(run);
  auto want = best_steps(run);
  want.resize(3);
  if (std::ranges::count(want, run.train.max_steps.steps()) == 0) {
    want.push_back(run.train.max_steps);
  }
  std::ranges::sort(want);
  EXPECT_EQ(checkpoint_steps(run), want);
}

TEST_F(ValidationTest, TheBestIsTheSameHoweverOftenTheRunStops) {
  const auto whole = restless(config("whole")), stopped = restless(config("stopped"));
  train(whole);
  for (int64_t step = 0; step < whole.train.max_steps; ++step) {
    train(stopped, 1);
  }
  expect_same_run(stopped, whole);
  EXPECT_EQ(checkpoint_steps(stopped), checkpoint_steps(whole));
  EXPECT_EQ(fs::read_symlink(stopped.run_dir() / "checkpoints/best"),
            fs::read_symlink(whole.run_dir() / "checkpoints/best"));
}

// The records have what `braid evaluate` says of the same store.
TEST_F(ValidationTest, OfConversationsHasTheLossOfEveryRole) {
  std::string lines, held_out;
  for (int i = 0; i < 12; ++i) {
    (i % 3 == 0 ? held_out : lines) += text(R"({"messages": [{"role": "user", "content": "n)",
                                            i,
                                            R"(?"}, {"role": "assistant", "content": ")",
                                            i * i,
                                            "\"}]}\n");
  }
  auto run = config("run");
  run.data.train = {write("train.jsonl", lines).string()};
  run.data.validation = {write("held-out.jsonl", held_out).string()};
  run.data.validation_fraction = 0;
  run.data.document_separator.clear();
  run.data.roles_to_train = {ChatRole::kUser, ChatRole::kAssistant};
  train(run);
  const auto record = validations_of(run).back();
  const auto opened = open_model(run.run_dir(), at::kFloat);
  const TokenStore store(run.run_dir() / "data" / "validation.tokens");
  const auto evaluation = evaluate(*opened.model, store, 32, 4, nullptr, &tokenizer_);
  std::set<std::string> keys;
  for (const auto& [role, part, loss, tokens, weight] : evaluation.roles) {
    const auto key = text("loss.", role, part.empty() ? "" : ".", part);
    keys.insert(key);
    ASSERT_TRUE(record.contains(key)) << record;
    EXPECT_NEAR(record.at(key).get<double>(), loss, 1e-6 * loss) << key;
  }
  EXPECT_EQ(keys,
            (std::set<std::string>{
                "loss.user", "loss.assistant", "loss.assistant.text", "loss.assistant.end_token"}));
  train(config("of text"));
  for (const auto& [key, value] : validations_of(config("of text")).back().items()) {
    EXPECT_FALSE(key.starts_with("loss.")) << key;
  }
}

TEST_F(ValidationTest, OtherTextsMakeTheBestLossSoFarMeaningless) {
  auto run = restless(config("run"));
  train(run, 3);
  run.data.validation = {write("other.txt", "something else\n%\nto validate on\n").string()};
  expect_mentions(train(run, 1).output, {"what is validated changed", "no longer counts"});
}

/// A run that does not learn: every validation gives the same loss.
RunConfig without_progress(RunConfig run) {
  run.train.max_steps = 20;
  run.train.stop_when_worse_for = 2;
  run.optimizer.learning_rate = 1e-30;
  run.loss.bias_update_speed = 0;
  return run;
}

TEST_F(ValidationTest, ARunThatGetsNoBetterEndsAndStaysEnded) {
  auto run = without_progress(config("run"));
  const auto trained = train(run);
  EXPECT_EQ(trained.end, TrainingEnd::kFinished);
  expect_mentions(trained.output,
                  {"ended after step 6 of 20", "2 validations in a row", "step 2 (loss"});
  const auto metrics = metrics_but_timings(run);
  EXPECT_EQ(metrics.size(), 6u + 3u);

  const auto again = train(run);
  EXPECT_EQ(again.end, TrainingEnd::kFinished);
  expect_mentions(again.output, {"ended after step 6 of 20"});
  EXPECT_EQ(metrics_but_timings(run), metrics);

  run.train.stop_when_worse_for = 3;
  expect_mentions(train(run).output, {"ended after step 8 of 20", "3 validations in a row"});
}

TEST_F(ValidationTest, PatienceIsCountedAcrossStops) {
  const auto run = without_progress(config("run"));
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(train(run, 1).end, TrainingEnd::kInterrupted);
  }
  EXPECT_EQ(train(run).end, TrainingEnd::kFinished);
  EXPECT_EQ(metrics_but_timings(run).size(), 6u + 3u);
}

TEST_F(ValidationTest, SetsAreReportedByNameAndOneDecides) {
  auto run = restless(config("run"));
  run.data.validation = ValidationSets(std::vector<ValidationSet>{
      {"short", {write("short.txt", "a fox\n%\na dog\n").string()}},
      {"long", {write("long.txt", "the quick brown fox jumps over the lazy dog\n").string()}}});
  run.checkpoint.best_by = "long";
  const auto trained = train(run);
  expect_mentions(trained.output,
                  {"validation short: 2 documents", "| validation long loss ", "bits per byte"});
  const auto validations = validations_of(run);
  ASSERT_EQ(validations.size(), 20u);
  EXPECT_EQ(validations[0].at("set"), "short");
  EXPECT_EQ(validations[1].at("set"), "long");
  int64_t best = 0;
  double lowest = 1e9;
  for (const auto& record : validations) {
    if (record.at("set") == "long" && record.at("loss") < lowest) {
      lowest = record.at("loss");
      best = record.at("step");
    }
  }
  EXPECT_EQ(fs::read_symlink(run.run_dir() / "checkpoints/best"), checkpoint_folder_name(best));
}

TEST_F(ValidationTest, KeysThatNeedAValidationSaySo) {
  const auto error = [&](const std::vector<std::string>& overrides) {
    const auto path = write("run.yaml", dump_config(config("run")));
    return error_of([&] { load_run_config(path, overrides); });
  };
  expect_mentions(error({"checkpoint.best_by=prose"}),
                  {"checkpoint.best_by (--set)", "'prose'", "no names"});
  expect_mentions(error({"data.validation={a: x, b: y}", "checkpoint.best_by=c"}),
                  {"checkpoint.best_by", "'c'", "a, b"});
  expect_mentions(error({"checkpoint.keep_best=1", "data.validation_fraction=0"}),
                  {"checkpoint.keep_best (--set)", "nothing is validated"});
  expect_mentions(error({"train.stop_when_worse_for=1", "train.validate_every_steps=0"}),
                  {"train.stop_when_worse_for (--set)", "only at the end"});
}

}  // namespace
}  // namespace braid
