// Training around a quantized base: its codes stay in their files, checkpoints hold the rest.
#include <algorithm>
#include <filesystem>

#include "checkpoint/store.h"
#include "core/error.h"
#include "core/file.h"
#include "formats/inspect.h"
#include "formats/open_model.h"
#include "inference/probe.h"
#include "tests/formats/quantized_base.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using namespace testing;

class FrozenBase : public QuantizedBase {
 protected:
  RunConfig config_on_base(const std::string& name) const {
    auto run = run_on_base(name);
    for (const char* frozen : {"*ffn.experts.*", "*.attn.w*", "*shared_experts*"}) {
      run.optimizer.groups.push_back({.match = frozen, .optimizer = OptimizerKind::kNone});
    }
    return run;
  }
};

TEST_F(FrozenBase, IsLeftOutOfCheckpointsAndResumedBitForBit) {
  const auto whole = config_on_base("whole"), stopped = config_on_base("stopped");
  const auto trained = train(whole);
  EXPECT_EQ(trained.end, TrainingEnd::kFinished);
  expect_mentions(trained.output, {"starting from the weights of " + base_.string()});
  const auto checkpoint = load_checkpoint(newest_checkpoint(whole));
  EXPECT_EQ(std::get<std::string>(checkpoint.state.at("base_model")), base_.string());
  for (const auto& tensor : checkpoint.tensors) {
    EXPECT_EQ(tensor.name.find("experts"), std::string::npos) << tensor.name;
  }
  train(stopped, 2);
  const auto continued = train(stopped);
  expect_mentions(continued.output, {"frozen weights of " + base_.string()});
  expect_same_run(stopped, whole);
}

TEST_F(FrozenBase, CompletesTheRunForEveryCommand) {
  const auto run = config_on_base("run");
  train(run);
  const auto ids = at::arange(20).view({1, 20});
  const auto logits = [&](const fs::path& path) {
    return probe(*open_model(path, at::kFloat).model, ids, {}, {}).front().value;
  };
  EXPECT_FALSE(logits(run.run_dir()).equal(logits(base_))) << "training changed nothing";
  const auto inspection = inspect(run.run_dir(), /*verify=*/true);
  for (const auto& verdict : inspection.verdicts) {
    EXPECT_EQ(verdict.problem, "") << verdict.file;
  }
  fs::path codes;
  for (const auto& entry : fs::directory_iterator(base_)) {
    codes = entry.path().extension() == ".safetensors" ? entry.path() : codes;
  }
  const std::string bytes = read_file(codes);
  auto changed = bytes;
  changed.back() = static_cast<char>(changed.back() ^ 1);
  write_file_atomically(codes, changed);
  try {
    open_model(run.run_dir(), at::kFloat);
    FAIL() << "opened with another base";
  } catch (const Error& error) {
    expect_mentions(error.what(), {base_.string(), "now holds another model"});
  }
  write_file_atomically(codes, bytes);
  open_model(run.run_dir(), at::kFloat);
  fs::rename(base_, folder_ / "elsewhere");
  try {
    open_model(run.run_dir(), at::kFloat);
    FAIL() << "opened without its base";
  } catch (const Error& error) {
    expect_mentions(error.what(), {"its frozen weights are in " + base_.string()});
  }
}

TEST_F(FrozenBase, LossAndGradientsAreThoseOfTheDecodedModel) {
  auto frozen = config_on_base("frozen"), decoded = config_on_base("decoded");
  decoded.optimizer.groups.clear();
  frozen.train.max_steps = decoded.train.max_steps = 1;
  train(frozen);
  train(decoded);
  const auto loss = [](const RunConfig& run) {
    return metrics_of_step(run, 1).at("loss").get<double>();
  };
  EXPECT_NEAR(loss(frozen), loss(decoded), 1e-5);
}

}  // namespace
}  // namespace braid
