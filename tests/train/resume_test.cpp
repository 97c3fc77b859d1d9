// Stopping and continuing: the same bits as never having stopped, and nothing lost on the way.
#include <filesystem>
#include <fstream>

#include "checkpoint/history.h"
#include "tests/support/compare.h"
#include "tests/train/tiny_run.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using namespace testing;
using ResumeTest = TinyRun;

TEST_F(ResumeTest, TwoRunsAreEqualBitForBit) {
  EXPECT_EQ(train(config("a")).end, TrainingEnd::kFinished);
  train(config("b"));
  EXPECT_EQ(metrics_but_timings(config("a")).size(), 6u + 3u);
  expect_same_run(config("b"), config("a"));
}

TEST_F(ResumeTest, StoppingAfterAnyStepChangesNoBit) {
  const auto whole = config("whole");
  train(whole);
  for (int64_t stop = 0; stop < whole.train.max_steps; ++stop) {
    SCOPED_TRACE(text("stopped after step ", stop));
    const auto stopped = config(text("stopped-", stop));
    EXPECT_EQ(train(stopped, stop).end, TrainingEnd::kInterrupted);
    const auto continued = train(stopped);
    EXPECT_EQ(continued.end, TrainingEnd::kFinished);
    expect_mentions(continued.output, {text("continuing after step ", stop)});
    expect_same_run(stopped, whole);
  }
}

TEST_F(ResumeTest, StoppingAfterEveryStepChangesNoBit) {
  train(config("whole"));
  for (int step = 0; step < 6; ++step) {
    train(config("stopped"), 1);
  }
  expect_same_run(config("stopped"), config("whole"));
}

TEST_F(ResumeTest, Bfloat16ContinuesWithTheSameBits) {
  auto whole = config("whole"), stopped = config("stopped");
  whole.train.dtype = stopped.train.dtype = ComputeType::kBfloat16;
  train(whole);
  train(stopped, 3);
  train(stopped);
  expect_same_run(stopped, whole);
}

TEST_F(ResumeTest, KeepsOnlyTheAskedNumberOfCheckpoints) {
  auto run = config("run");
  run.checkpoint = {.every_steps = 1, .keep_last = 2};
  train(run);
  EXPECT_TRUE(fs::exists(run.run_dir() / "checkpoints/step-00000006/COMPLETE"));
  EXPECT_TRUE(fs::exists(run.run_dir() / "checkpoints/step-00000005/COMPLETE"));
  EXPECT_FALSE(fs::exists(run.run_dir() / "checkpoints/step-00000004"));
}

TEST_F(ResumeTest, MetricsAfterTheCheckpointAreCutBack) {
  auto whole = config("whole");
  auto killed = config("killed");
  train(whole);
  train(killed, 3);
  std::ofstream(killed.run_dir() / "metrics.jsonl", std::ios::app)
      << R"({"step":4,"loss":99})" << '\n'
      << R"({"step":5,"lo)";
  train(killed);
  expect_same_run(killed, whole);
}

TEST_F(ResumeTest, AFinishedRunStaysAsItIs) {
  auto run = config("run");
  train(run);
  const auto before = metrics_but_timings(run);
  EXPECT_EQ(train(run).end, TrainingEnd::kFinished);
  EXPECT_EQ(metrics_but_timings(run), before);
}

TEST_F(ResumeTest, RefusesAnotherModelAndNamesTheKey) {
  auto run = config("run");
  train(run, 1);
  run.model.moe_intermediate_size = 24;
  expect_mentions(error_of([&] { train(run); }),
                  {"step-00000001", "model.moe_intermediate_size was 16, is 24", "run.name"});
}

TEST_F(ResumeTest, NotesOtherChangesAndGoesOn) {
  auto run = config("run");
  train(run, 1);
  run.optimizer.learning_rate = 0.003;
  const auto continued = train(run);
  EXPECT_EQ(continued.end, TrainingEnd::kFinished);
  expect_mentions(continued.output,
                  {"the configuration changed", "optimizer.learning_rate was 0.002, is 0.003"});
}

TEST_F(ResumeTest, NotesAChangedText) {
  auto run = config("run");
  train(run, 1);
  std::ofstream(corpus_, std::ios::app) << "one more document\n";
  expect_mentions(train(run).output,
                  {"note: " + corpus_.string() + " changed since the checkpoint (digest ",
                   "order of the documents is new; it begins with epoch 1"});
}

TEST_F(ResumeTest, MixedSourcesContinueWithTheSameBitsAndOnlyTheChangedOneBeginsAnew) {
  const auto with_sources = [&](const std::string& name) {
    auto run = config(name);
    const auto other = write("other.jsonl",
                             "{\"text\": \"she sells sea shells\"}\n"
                             "{\"text\": \"by the sea shore\"}\n{\"text\": \"on Sundays\"}\n");
    run.data.train = {{corpus_.string(), 0.75}, {other.string(), 0.25}};
    return run;
  };
  const auto whole = with_sources("whole"), stopped = with_sources("stopped");
  train(whole);
  for (int step = 0; step < 6; ++step) {
    train(stopped, 1);
  }
  expect_same_run(stopped, whole);

  const auto run = with_sources("run");
  train(run, 3);
  write("other.jsonl", "{\"text\": \"one more document\"}\n{\"text\": \"and another\"}\n");
  const auto output = train(run, 1).output;
  expect_mentions(output,
                  {"note: " + (folder_ / "other.jsonl").string() + " changed",
                   (folder_ / "other.jsonl").string() + ": the order of the documents is new"});
  EXPECT_EQ(output.find(corpus_.string() + " changed"), std::string::npos);
  EXPECT_EQ(output.find(corpus_.string() + ": the order"), std::string::npos);
}

TEST_F(ResumeTest, RefusesASecondProcessInTheSameRun) {
  const auto run = config("run");
  const Trainer first(run);
  expect_mentions(error_of([&] { Trainer second(run); }),
                  {run.run_dir().string(), "another process is training"});
}

TEST_F(ResumeTest, AShortenedCheckpointIsPassedOverForTheOneBeforeIt) {
  auto whole = config("whole"), run = config("run");
  whole.checkpoint = run.checkpoint = {.every_steps = 2, .keep_last = 3};
  train(whole);
  train(run, 5);
  fs::resize_file(newest_checkpoint(run) / "shard-00000-of-00001.h5", 1000);
  const auto continued = train(run);
  expect_mentions(
      continued.output,
      {"passing over a damaged checkpoint", "step-00000005", "continuing after step 4"});
  expect_same_run(run, whole);
}

TEST_F(ResumeTest, AnAlteredCheckpointIsSetAsideForTheOneBeforeIt) {
  auto whole = config("whole"), run = config("run");
  whole.checkpoint = run.checkpoint = {.every_steps = 2, .keep_last = 3};
  train(whole);
  train(run, 5);
  const auto damaged = newest_checkpoint(run);
  std::fstream shard(damaged / "shard-00000-of-00001.h5",
                     std::ios::in | std::ios::out | std::ios::binary);
  shard.seekp(100000).put('\x5a');
  shard.close();
  expect_mentions(train(run).output,
                  {"passing over a damaged checkpoint",
                   "step-00000005/shard",
                   "step-00000005.damaged",
                   "continuing after step 4"});
  EXPECT_TRUE(fs::exists(damaged.string() + ".damaged"));
  expect_same_run(run, whole);
}

TEST_F(ResumeTest, FromAnEarlierCheckpointSetsTheLaterOnesAside) {
  auto whole = config("whole"), run = config("run");
  whole.checkpoint = run.checkpoint = {.every_steps = 2, .keep_last = 3};
  train(whole);
  train(run);
  const auto earlier = run.run_dir() / "checkpoints/step-00000002";
  const auto again = train(run, 100, {ResumeFrom::Kind::kPath, earlier});
  expect_mentions(again.output, {"continuing after step 2", "step-00000006.superseded"});
  expect_same_run(run, whole);
}

TEST_F(ResumeTest, NoneStartsAgainAndKeepsTheEarlierRun) {
  const auto run = config("run");
  train(run);
  const auto before = metrics_but_timings(run);
  const auto again = train(run, 2, {ResumeFrom::Kind::kNone, {}});
  expect_mentions(again.output, {"run.before-1"});
  EXPECT_EQ(metrics_but_timings(run).size(), 2u + 1u);
  auto earlier = run;
  earlier.run.name = "run.before-1";
  EXPECT_EQ(metrics_but_timings(earlier), before);
  EXPECT_TRUE(fs::exists(earlier.run_dir() / "checkpoints/step-00000006/COMPLETE"));
}

TEST_F(ResumeTest, InitFromTakesTheWeightsAndNothingElse) {
  auto first = config("first"), second = config("second");
  train(first);
  second.run.init_from = first.run_dir().string();
  second.train.max_steps = 1;
  second.schedule.warmup_steps = 1000000;  // a learning rate of almost nothing
  expect_mentions(train(second).output, {"starting from the weights of"});
  const auto want = load_checkpoint(newest_checkpoint(first)),
             got = load_checkpoint(newest_checkpoint(second));
  EXPECT_EQ(std::get<int64_t>(got.state.at("optimizer_steps")), 1);
  for (std::size_t i = 0; i < got.tensors.size(); ++i) {
    if (got.tensors[i].name == "model/layers.1.attn.wq_a.weight") {
      expect_close("wq_a", got.tensors[i].value, want.tensors[i].value, {.absolute = 1e-7});
    }
  }
}

TEST_F(ResumeTest, EveryFewStepsACheckpointIsKeptForGood) {
  auto run = config("run");
  run.checkpoint = {.every_steps = 1, .keep_last = 1, .keep_every_steps = 2};
  train(run, 5);
  for (const auto& [step, kept] :
       {std::pair{1, false}, {2, true}, {3, false}, {4, true}, {5, true}}) {
    EXPECT_EQ(fs::exists(run.run_dir() / "checkpoints" / checkpoint_folder_name(step)), kept)
        << step;
  }
}

TEST_F(ResumeTest, WithoutAnyWholeCheckpointARunIsNotStartedAgain) {
  const auto run = config("run");
  train(run, 3);
  const auto metrics = metrics_but_timings(run);
  fs::resize_file(newest_checkpoint(run) / "shard-00000-of-00001.h5", 1000);
  expect_mentions(error_of([&] { train(run); }),
                  {"no checkpoint is whole", "step-00000003/shard", "run.name"});
  EXPECT_EQ(metrics_but_timings(run), metrics);
}

TEST_F(ResumeTest, ACheckpointThatWasBeingReplacedIsRestored) {
  const auto run = config("run");
  train(run, 3);
  const auto checkpoint = newest_checkpoint(run);
  fs::rename(checkpoint, checkpoint.string() + ".old");
  expect_mentions(train(run).output, {"continuing after step 3"});
}

}  // namespace
}  // namespace braid
