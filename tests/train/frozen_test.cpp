// What is frozen keeps its bits: every kind of parameter, with each optimizer and every loss.
#include <set>

#include "core/parameter_names.h"
#include "tests/support/compare.h"
#include "tests/train/tiny_run.h"

namespace braid {
namespace {

using namespace testing;

std::map<std::string, at::Tensor> by_name(const std::vector<NamedTensor>& tensors) {
  std::map<std::string, at::Tensor> result;
  for (const auto& [name, value] : tensors) {
    result.emplace(name, value);
  }
  return result;
}

class FrozenTest : public TinyRun {
 protected:
  /// Three steps with every loss, decay and momentum; experts are rounded as for FP4.
  RunConfig all_losses(const std::string& name, ResidualKind residual) const {
    auto run = config(name);
    run.model.residual = residual;
    run.model.hidden_size = run.model.moe_intermediate_size = 32;  // groups of FP4
    run.model.qat_experts = QuantFormat::kFp4;
    run.data.validation_fraction = 0;
    run.train.max_steps = 3;  // an even number of steps may bring a routing bias back to 0
    run.train.micro_batch_size = 4;
    run.train.validate_every_steps = 0;
    run.schedule.warmup_steps = 0;
    run.loss.indexer_mode = IndexerMode::kSparse;
    run.loss.balance_weight = 0.1;
    run.optimizer.learning_rate = 0.01;
    run.checkpoint.every_steps = 0;
    run.checkpoint.in_background = false;
    return run;
  }

  /// The values of a run before its first step.
  static std::map<std::string, at::Tensor> initial(const RunConfig& run) {
    return by_name(Transformer(run.model, at::kFloat, 1).parameters().tensors());
  }

  /// The values of a run, trained.
  static std::map<std::string, at::Tensor> trained(const RunConfig& run) {
    train(run);
    std::map<std::string, at::Tensor> values;
    for (const auto& [name, value] : load_checkpoint(newest_checkpoint(run)).tensors) {
      if (name.starts_with("model/")) {
        values.emplace(name.substr(6), value);
      }
    }
    return values;
  }

  void expect_frozen_kinds_stay(const RunConfig& base, const std::vector<ParameterGroup>& others) {
    const auto before = initial(base);
    auto free_run = base;
    free_run.run.name += "-free";
    free_run.optimizer.groups = others;
    const auto free = trained(free_run);
    for (const auto& kind : parameter_kinds()) {
      const std::string leaf(kind.name);
      const auto pattern = kind.place == ParameterPlace::kTop ? leaf : "*." + leaf;
      const auto is_meant = [&](const std::string& name) { return matches_glob(pattern, name); };
      std::vector<std::string> meant;
      for (const auto& [name, value] : before) {
        if (is_meant(name)) {
          meant.push_back(name);
        }
      }
      if (meant.empty() || !tried_.emplace(leaf, others.size()).second) {
        continue;  // of another residual
      }
      auto run = base;
      run.run.name = text("frozen-", tried_.size());
      run.optimizer.groups = {{pattern, OptimizerKind::kNone, 1, {}}};
      run.optimizer.groups.insert(run.optimizer.groups.end(), others.begin(), others.end());
      const auto after = trained(run);
      const bool is_table = kind.role == ParameterRole::kTable;
      for (const auto& name : meant) {
        expect_bitwise_equal(name, after.at(name), before.at(name));
        EXPECT_EQ(free.at(name).equal(before.at(name)), is_table)
            << name << " is not moved by a run that trains it";
      }
    }
  }

  std::set<std::pair<std::string, std::size_t>> tried_;  // kinds, by the groups behind theirs
};

TEST_F(FrozenTest, KeepsItsBitsWhateverTheKindTheOptimizerAndTheLoss) {
  const std::vector<ParameterGroup> adamw = {{"*", OptimizerKind::kAdamW, 1, {}}};
  for (const auto residual : {ResidualKind::kMhc, ResidualKind::kHc}) {
    const auto name = text("residual-", static_cast<int>(residual));
    expect_frozen_kinds_stay(all_losses(name, residual), {});
    expect_frozen_kinds_stay(all_losses(name + "-adamw", residual), adamw);
  }
  for (const auto& kind : parameter_kinds()) {
    for (const std::size_t others : {0, 1}) {
      EXPECT_TRUE(tried_.contains({std::string(kind.name), others})) << kind.name;
    }
  }
}

// Groups that freeze more than one kind, in stages that train other parts.
TEST_F(FrozenTest, FeedForwardNetworksKeepTheirRoutingBiasesInEveryStage) {
  auto run = all_losses("run", ResidualKind::kMhc);
  run.train.max_steps = 6;
  run.schedule.dense_steps = 2;
  run.schedule.indexer_warmup_steps = 2;
  run.optimizer.groups = {{"*ffn.*", OptimizerKind::kNone, 1, {}}};
  const auto before = initial(run), after = trained(run);
  int64_t biases = 0;
  for (const auto& [name, value] : before) {
    const bool is_frozen = name.find("ffn.") != std::string::npos;
    EXPECT_EQ(after.at(name).equal(value), is_frozen) << name;
    biases += name.ends_with("gate.bias") ? 1 : 0;
  }
  EXPECT_EQ(biases, 3);
}

TEST_F(FrozenTest, RoutingBiasesAreListedWhereTheyAreFrozen) {
  auto run = all_losses("run", ResidualKind::kMhc);
  run.optimizer.groups = {{"layers.1.ffn.gate.bias", OptimizerKind::kNone, 1, {}}};
  // optimizer, lr, decay, elements, tensors, parts
  expect_mentions(train(run).output, {"\nnone       -   -             4        1  router\n"});
  auto free = all_losses("free", ResidualKind::kMhc);
  EXPECT_EQ(train(free).output.find("\nnone "), std::string::npos);
}

}  // namespace
}  // namespace braid
