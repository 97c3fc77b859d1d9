// Runs on synthetic tasks: accuracy in the metrics, the best checkpoint by it, and stopping
// anywhere.
#include <cmath>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "checkpoint/history.h"
#include "data/byte_tokenizer.h"
#include "data/task_documents.h"
#include "formats/open_model.h"
#include "inference/evaluate.h"
#include "tests/train/tiny_run.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using namespace testing;

ArithmeticOptions small_numbers() {
  ArithmeticOptions options;
  options.modulus = 5;
  options.operations = {ArithmeticOperation::kAdd, ArithmeticOperation::kMultiply};
  options.held_out = 0.3;
  options.documents = 40;
  return options;
}

class TaskRun : public TinyRun {
 protected:
  RunConfig on_task(const std::string& name) const {
    auto run = config(name);
    run.data.train = {DataSource(TaskOptions(small_numbers()))};
    return run;
  }
};

nlohmann::json validation_of_step(const RunConfig& run, int64_t step, const std::string& set) {
  for (const auto& record : metrics_but_timings(run)) {
    if (record.at("step") == step && record.value("split", "") == "validation" &&
        record.value("set", "") == set) {
      return record;
    }
  }
  ADD_FAILURE() << "no validation of '" << set << "' after step " << step;
  return {};
}

TEST_F(TaskRun, ReportsTheAccuracyOfEachGroup) {
  const auto run = on_task("run");
  const auto output = train(run).output;
  expect_mentions(output,
                  {"data: task arithmetic (add, multiply modulo 5): documents without end",
                   "validation arithmetic: 40 documents",
                   "| validation arithmetic loss",
                   "| accuracy 0."});
  const auto record = validation_of_step(run, 6, "arithmetic");
  EXPECT_TRUE(record.contains("accuracy"));
  EXPECT_TRUE(record.contains("accuracy.add"));
  EXPECT_TRUE(record.contains("accuracy.multiply"));
  EXPECT_FALSE(record.contains("accuracy.subtract"));
  EXPECT_EQ(record.at("tokens"), 40);
}

TEST_F(TaskRun, StoppingAfterAnyStepChangesNoBit) {
  const auto mixed = [&](const std::string& name) {
    auto run = on_task(name);
    run.data.train = {DataSource(corpus_.string(), 1), DataSource(TaskOptions(small_numbers()), 2)};
    return run;
  };
  const auto whole = mixed("whole"), stopped = mixed("stopped");
  train(whole);
  for (int step = 0; step < 6; ++step) {
    train(stopped, 1);
  }
  expect_same_run(stopped, whole);
  EXPECT_TRUE(validation_of_step(whole, 6, "").contains("bits_per_byte")) << "of the text";
  EXPECT_TRUE(validation_of_step(whole, 6, "arithmetic").contains("accuracy"));
}

TEST_F(TaskRun, AccuracyIsThatOfTheLogits) {
  auto run = on_task("run");
  run.train.max_steps = 150;
  run.train.validate_every_steps = 0;
  run.optimizer.learning_rate = 1e-2;
  run.checkpoint.every_steps = 0;
  train(run);
  const auto opened = open_model(run.run_dir(), at::kFloat);
  const ByteTokenizer tokenizer;
  const TaskDocuments store(TaskOptions(small_numbers()), TaskSide::kValidation, tokenizer);
  int64_t right = 0, right_of_add = 0, adds = 0;
  for (int64_t i = 0; i < store.num_documents(); ++i) {
    auto ids = store.tokens(i);
    const int64_t answer = ids.back();
    ids.pop_back();
    ids.insert(ids.begin(), store.begin_id());
    const at::NoGradGuard no_grad;
    const auto hidden = opened.model->forward(whole_documents(at::tensor(ids).unsqueeze(0)));
    const auto logits = opened.model->logits(hidden.final_BSD.select(1, -1));
    const bool is_right = logits.argmax(-1).item<int64_t>() == answer;
    right += is_right ? 1 : 0;
    const bool is_add = store.answer_groups()[store.answers(i)[0].group] == "add";
    adds += is_add ? 1 : 0;
    right_of_add += is_add && is_right ? 1 : 0;
  }
  ASSERT_GT(right, 0) << "or the comparison says nothing";
  const auto evaluation = evaluate(*opened.model, store, 32, 3);
  ASSERT_TRUE(evaluation.answers);
  EXPECT_EQ(evaluation.answers->all.answers, 40);
  EXPECT_EQ(evaluation.answers->all.right, right);
  EXPECT_EQ(evaluation.answers->groups.at(0).name, "add");
  EXPECT_EQ(evaluation.answers->groups.at(0).answers, adds);
  EXPECT_EQ(evaluation.answers->groups.at(0).right, right_of_add);
  expect_mentions(error_of([&] { evaluate(*opened.model, store, 4, 3); }),
                  {"task arithmetic", "has 5 tokens and a sequence 4"});
}

TEST_F(TaskRun, AnAnswerOfSeveralTokensIsRightAsAWhole) {
  CopyingOptions copying;
  copying.sequence = 3;
  copying.distances = {4};
  copying.documents = 20;
  const ByteTokenizer tokenizer;
  const TaskDocuments store(TaskOptions(copying), TaskSide::kValidation, tokenizer);
  const Transformer model(tiny_model(), at::kFloat, /*seed=*/1);
  const auto evaluation = evaluate(model, store, 32, 4);
  EXPECT_EQ(evaluation.tokens, 60);
  EXPECT_EQ(evaluation.answers->all.answers, 20);
}

TEST_F(TaskRun, TheBestCheckpointGoesByAccuracy) {
  auto run = on_task("run");
  run.train.max_steps = 12;
  run.train.validate_every_steps = 1;
  run.optimizer.learning_rate = 0.5;
  run.schedule.warmup_steps = 12;
  run.checkpoint = {
      .every_steps = 0, .keep_last = 1, .keep_best = 1, .best_by = "arithmetic.accuracy"};
  train(run);
  int64_t best = 0;
  double highest = -1;
  for (int64_t step = 1; step <= 12; ++step) {
    const double accuracy = validation_of_step(run, step, "arithmetic").at("accuracy");
    if (accuracy > highest) {
      highest = accuracy;
      best = step;
    }
  }
  EXPECT_EQ(fs::read_symlink(run.run_dir() / "checkpoints/best"), checkpoint_folder_name(best));
}

TEST_F(TaskRun, AccuracyIsAskedOfTasksAlone) {
  auto run = config("run");
  run.data.validation =
      ValidationSets(std::vector<ValidationSet>{{"prose", {corpus_.string()}, {}}});
  run.checkpoint.best_by = "prose.accuracy";
  expect_mentions(error_of([&] { run.validate(); }), {"checkpoint.best_by", "prose is no task"});
  run.checkpoint.best_by = "prse.accuracy";
  expect_mentions(error_of([&] { run.validate(); }), {"checkpoint.best_by", "prose"});
}

}  // namespace
}  // namespace braid
