// What one optimizer step does.
#include <cmath>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "run/tokens_of.h"
#include "tests/support/compare.h"
#include "tests/train/tiny_run.h"

namespace braid {
namespace {

using namespace testing;
using TrainingTest = TinyRun;

at::Tensor tensor_of(const Checkpoint& checkpoint, const std::string& name) {
  for (const auto& [found, value] : checkpoint.tensors) {
    if (found == name) {
      return value;
    }
  }
  return {};
}

TEST_F(TrainingTest, ATinyModelMemorisesAShortText) {
  auto run = config("run");
  run.data.train = {write("short.txt", "She sells sea shells.").string()};
  run.data.document_separator = "";
  run.data.validation_fraction = 0;
  run.train.max_steps = 120;
  run.train.global_batch_size = run.train.micro_batch_size = 1;
  run.optimizer.learning_rate = 0.02;
  run.checkpoint.every_steps = 0;
  train(run);
  EXPECT_GT(metrics_of_step(run, 1).at("loss").get<double>(), 5);
  EXPECT_LT(metrics_of_step(run, 120).at("loss").get<double>(), 0.1);
  EXPECT_LT(metrics_of_step(run, 120).at("mtp_loss").get<double>(), 0.1);
}

TEST_F(TrainingTest, MicroBatchesOfAnySizeGiveTheSameStep) {
  // After one step the optimizer's state holds the gradients, up to factors.
  std::vector<Checkpoint> checkpoints;
  std::vector<double> losses;
  for (const int64_t rows : {4, 2, 1}) {
    auto run = config(text("rows-", rows));
    run.train.dtype = ComputeType::kFloat64;
    run.train.micro_batch_size = rows;
    train(run, 1);
    checkpoints.push_back(load_checkpoint(newest_checkpoint(run)));
    losses.push_back(metrics_of_step(run, 1).at("loss").get<double>());
  }
  for (std::size_t i = 1; i < checkpoints.size(); ++i) {
    EXPECT_NEAR(losses[i], losses[0], 1e-12);
    for (const auto& [name, value] : checkpoints[i].tensors) {
      if (name.starts_with("optimizer/")) {
        expect_close(
            name, value, tensor_of(checkpoints[0], name), {.absolute = 1e-16, .relative = 1e-12});
      }
    }
  }
}

TEST_F(TrainingTest, RoutingBiasesMoveTowardsEvenLoad) {
  auto run = config("run");
  run.loss.bias_update_speed = 0.25;
  train(run, 1);

  const TokenStore store(run.run_dir() / "data/train.tokens");
  Loader loader({{store}}, {.seed = 1, .pack_window = 16});
  const auto batch = loader.next({run.train.global_batch_size, 32});
  const Transformer initial(run.model, at::kFloat, 1);
  const auto tokens = tokens_of(batch);
  Observations observations;
  const at::NoGradGuard no_grad;
  initial.mtp_forward(tokens, initial.forward(tokens, {}, &observations), {}, &observations);

  const auto checkpoint = load_checkpoint(newest_checkpoint(run));
  const auto counted = (batch.documents_BS >= 0).sum().item<double>();
  const std::vector<std::string> routers = {"layers.0", "layers.1", "layers.2", "mtp.0"};
  for (std::size_t i = 1; i < routers.size(); ++i) {
    const auto& load = observations.layers[i].load_E;
    EXPECT_EQ(load.sum().item<double>(), counted * run.model.num_experts_per_tok);
    expect_close(routers[i],
                 tensor_of(checkpoint, "model/" + routers[i] + ".ffn.gate.bias"),
                 0.25 * (load.mean() - load).sign(),
                 {});
  }
  EXPECT_FALSE(tensor_of(checkpoint, "model/layers.0.ffn.gate.bias").defined());
}

class SkippedStepTest : public TinyRun {
 protected:
  /// A run of three steps whose final norm then got a weight with which logits overflow.
  RunConfig poisoned() const {
    auto run = config("run");
    run.stability.max_skipped_steps = 2;
    train(run, 3);
    const auto path = newest_checkpoint(run);
    auto checkpoint = load_checkpoint(path);
    for (auto& [name, value] : checkpoint.tensors) {
      if (name == "model/norm.weight") {
        value = value.clone();
        value.fill_(3e38);
      }
    }
    const std::string yaml = read_file(path / "config.yaml");
    save_checkpoint(path, checkpoint, {{"config.yaml", yaml}});
    return run;
  }
};

TEST_F(SkippedStepTest, MovesNothingButTheData) {
  const auto run = poisoned();
  const auto before = load_checkpoint(newest_checkpoint(run));
  const auto trained = train(run, 2);
  expect_mentions(trained.output, {"step 4", "was skipped: not finite: loss, gradients of"});
  const auto after = load_checkpoint(newest_checkpoint(run));
  for (std::size_t i = 0; i < before.tensors.size(); ++i) {
    expect_bitwise_equal(before.tensors[i].name, after.tensors[i].value, before.tensors[i].value);
  }
  EXPECT_EQ(std::get<int64_t>(after.state.at("step")), 5);
  EXPECT_EQ(after.state.at("optimizer_steps"), before.state.at("optimizer_steps"));
  EXPECT_EQ(std::get<int64_t>(after.state.at("samples")),
            std::get<int64_t>(before.state.at("samples")) + 2 * run.train.global_batch_size);
  EXPECT_EQ(metrics_of_step(run, 5).at("skipped_total"), 2);
  expect_mentions(metrics_of_step(run, 5).at("skipped"),
                  {"loss", "gradients of attention (layers."});
  EXPECT_TRUE(metrics_of_step(run, 5).at("loss").is_null());
  EXPECT_EQ(metrics_of_step(run, 5).at("learning_rate"),
            metrics_of_step(run, 4).at("learning_rate"));
}

TEST_F(SkippedStepTest, TooManyInARowEndTheRun) {
  const auto run = poisoned();
  expect_mentions(error_of([&] { train(run); }),
                  {"step 6", "3 steps in a row", "stability.max_skipped_steps"});
}

TEST_F(SkippedStepTest, StepsInARowAreCountedAcrossAStop) {
  const auto run = poisoned();
  train(run, 2);
  expect_mentions(error_of([&] { train(run); }), {"step 6", "3 steps in a row"});
}

}  // namespace
}  // namespace braid
