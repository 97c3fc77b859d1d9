// What a run says and keeps of what does not learn, learns nothing, or learns longer than planned.
#include <map>

#include "tests/commands/cli_test.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

using testing::expect_bitwise_equal;
using testing::expect_error;
using testing::expect_mentions;
using testing::metrics_of_step;

using Strings = std::vector<std::string>;

class Optimization : public testing::CliTest {
 protected:
  testing::Outcome train(const Strings& settings, const Strings& more = {}) const {
    Strings words = {"train", "run.yaml", "--set", "data.validation_fraction=0"};
    for (const auto& setting : settings) {
      words.insert(words.end(), {"--set", setting});
    }
    words.insert(words.end(), more.begin(), more.end());
    return braid(words);
  }

  std::map<std::string, at::Tensor> routing_biases(const std::string& run) const {
    std::map<std::string, at::Tensor> biases;
    const auto checkpoint = load_checkpoint(testing::newest_checkpoint(config(run)));
    for (const auto& [name, value] : checkpoint.tensors) {
      if (name.ends_with("gate.bias")) {
        biases.emplace(name, value);
      }
    }
    return biases;
  }
};

TEST_F(Optimization, FrozenFeedForwardNetworksKeepTheBiasesOfTheirBase) {
  ASSERT_EQ(train({"run.name=base"}).status, 0);
  const auto before = routing_biases("base");
  ASSERT_EQ(before.size(), 3u);
  for (const auto& [name, bias] : before) {
    EXPECT_TRUE(bias.abs().max().item<double>() > 0) << name;
  }
  for (const std::string match : {"*ffn.*", "*.ffn.gate.weight", "*.ffn.gate.bias"}) {
    const auto outcome = train({"run.name=tuned",
                                "run.init_from=runs/base",
                                "optimizer.groups=[{match: '" + match + "', optimizer: none}]"});
    ASSERT_EQ(outcome.status, 0) << match << outcome.err;
    const auto frozen = outcome.out.find("\nnone ");  // a line of the table of groups
    ASSERT_NE(frozen, std::string::npos) << outcome.out;
    expect_mentions(outcome.out.substr(frozen, outcome.out.find('\n', frozen + 1) - frozen),
                    {"router"});
    for (const auto& [name, bias] : routing_biases("tuned")) {
      expect_bitwise_equal(name, bias, before.at(name));
    }
    std::filesystem::remove_all(folder_ / "runs/tuned");
  }
}

TEST_F(Optimization, ARoutingBiasTakesNoOptimizerButNone) {
  expect_error(train({"optimizer.groups=[{match: '*.gate.bias', optimizer: adamw}]"}),
               {"optimizer.groups[0].match", "'*.gate.bias'", "none is the only optimizer"});
}

TEST_F(Optimization, RoutersWithoutAGradientAreSaidAtTheStart) {
  const auto outcome =
      train({"model.num_experts_per_tok=1", "loss.balance_weight=0", "train.max_steps=1"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  expect_mentions(outcome.out,
                  {"note: model.num_experts_per_tok is 1", "3 learned layer(s) get no gradient"});
  EXPECT_LT(outcome.out.find("num_experts_per_tok is 1"), outcome.out.find("step 1/"));
}

TEST_F(Optimization, AWarmUpLongerThanTheRunIsSaidAtTheStart) {
  const auto outcome = train({"schedule.warmup_steps=100", "train.max_steps=2"});
  expect_mentions(outcome.out,
                  {"note: schedule.warmup_steps is 100, more than the run's 2 (train.max_steps)",
                   "only reaches 4e-05 of its peak 0.002"});
}

TEST_F(Optimization, ALongerRunSaysWhereItsLearningRateGoes) {
  const Strings begin = {"schedule.kind=cosine", "schedule.warmup_steps=0", "train.max_steps=4"};
  for (const std::string name : {"stretch", "continue"}) {
    auto settings = begin;
    settings.push_back("run.name=" + name);
    ASSERT_EQ(train(settings).status, 0);
    settings[2] = "train.max_steps=8";
    settings.push_back("schedule.on_longer=" + name);
    const auto outcome = train(settings);
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    // Step 4 of 4 had 0.1 + 0.9 (1 + cos(3 pi / 4)) / 2 of the peak 0.002.
    expect_mentions(outcome.out, {"note: the learning rate goes from 0.000463604 to "});
    const bool stretches = name == "stretch";
    expect_mentions(outcome.out,
                    {stretches ? "to 0.0011 in the next step" : "to 0.0002 in the next step",
                     "schedule.on_longer is " + name,
                     stretches ? "spans 8 steps" : "spans 4 steps"});
    const auto rate = [&](int64_t step) {
      return metrics_of_step(config(name), step).at("learning_rate").get<double>();
    };
    EXPECT_NEAR(rate(5), stretches ? 0.0011 : 0.0002, 1e-12);
    EXPECT_EQ(rate(8) == rate(5), !stretches);
  }
}

TEST_F(Optimization, ALongerRunThatStopsGoesOnAsItWould) {
  const Strings begin = {
      "schedule.warmup_steps=0", "train.max_steps=4", "checkpoint.every_steps=0"};
  for (const std::string name : {"whole", "stopped"}) {
    auto settings = begin;
    settings.push_back("run.name=" + name);
    ASSERT_EQ(train(settings).status, 0);
    settings[1] = "train.max_steps=8";
    settings.push_back("schedule.on_longer=continue");
    if (name == "stopped") {
      ASSERT_EQ(train(settings, {"--stop-at-step", "6"}).status, 0);
    }
    ASSERT_EQ(train(settings).status, 0);
  }
  testing::expect_same_run(config("stopped"), config("whole"));
}

TEST_F(Optimization, DampingContinuesWithTheSameBits) {
  const Strings damped = {"optimizer.muon.idle_expert_damping=true", "checkpoint.every_steps=0"};
  for (const std::string name : {"whole", "stopped"}) {
    auto settings = damped;
    settings.push_back("run.name=" + name);
    if (name == "stopped") {
      ASSERT_EQ(train(settings, {"--stop-at-step", "3"}).status, 0);
    }
    ASSERT_EQ(train(settings).status, 0);
  }
  testing::expect_same_run(config("stopped"), config("whole"));
  const auto outcome = braid({"inspect", "runs/stopped", "--verify"});
  EXPECT_EQ(outcome.status, 0) << outcome.out;
}

TEST_F(Optimization, LearnedLayersAndHashLayersAreReportedApart) {
  ASSERT_EQ(train({"run.name=both", "train.max_steps=1"}).status, 0);
  const auto both = metrics_of_step(config("both"), 1);
  EXPECT_GE(both.at("expert_max_violation").get<double>(), 0);
  EXPECT_GE(both.at("expert_max_violation.hash").get<double>(), 0);
  ASSERT_EQ(train({"run.name=learned", "train.max_steps=1", "model.num_hash_layers=0"}).status, 0);
  EXPECT_FALSE(metrics_of_step(config("learned"), 1).contains("expert_max_violation.hash"));
}

}  // namespace
}  // namespace braid
